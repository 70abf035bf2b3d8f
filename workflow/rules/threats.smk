# Threats: what attacks acquire of every protection and at what price, and what ordinary use does to it.
#
# Needs the attacks' records (attack.smk), the unprotected merges, the merges with data and the records
# of handling; makes threats.csv, .pdf and .png, threats_cells.csv, price.csv, .pdf and .png,
# recovery.csv and .tex, handling.csv, .pdf and .png.  What is attacked is the suite's `threats`; from
# released checkpoints, updates that the bundle lacks are left out, with a note.


rule collect_threats:
    """Collect the attacks: what each acquires and keeps, and every single merge."""
    input:
        attacks=threat_files.attacks,
        merges=threat_files.merges,
        heads=threat_files.heads,
    output:
        threats="<results>/{suite}/threats.csv",
        cells="<results>/{suite}/threats_cells.csv",
    log:
        "<logs>/{suite}/collect_threats.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        left_out=threat_files.left_out,
        code=code.attacked("collect_threats.py"),
    message:
        "Collect the attacks on the {wildcards.suite} suite"
    script:
        "../scripts/collect_threats.py"


rule plot_threats:
    """Plot what every attack acquires of every protection, and whether it keeps the rest."""
    input:
        threats="<results>/{suite}/threats.csv",
    output:
        pdf="<results>/{suite}/threats.pdf",
        png=report(
            "<results>/{suite}/threats.png",
            caption="../report/threats.rst",
            category=artifacts.THREATS,
            labels={"content": "Attacks and protections"},
        ),
    log:
        "<logs>/{suite}/plot_threats.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        text=artifacts.ARTIFACTS["threats"].text,
        code=code.attacked("plot_threats.py"),
    message:
        "Plot the attacks on the {wildcards.suite} suite"
    script:
        "../scripts/plot_threats.py"


rule plot_price:
    """Tabulate and plot what attacks with a budget acquire, over images and over steps."""
    input:
        attacks=threat_files.attacks,
        merges=threat_files.merges,
        heads=threat_files.heads,
    output:
        csv="<results>/{suite}/price.csv",
        pdf="<results>/{suite}/price.pdf",
        png=report(
            "<results>/{suite}/price.png",
            caption="../report/threats.rst",
            category=artifacts.THREATS,
            labels={"content": "Price"},
        ),
    log:
        "<logs>/{suite}/plot_price.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        text=artifacts.ARTIFACTS["price"].text,
        left_out=threat_files.left_out,
        code=code.attacked("plot_price.py"),
    message:
        "Plot the price of attacks on the {wildcards.suite} suite"
    script:
        "../scripts/plot_price.py"


rule collect_recovery:
    """Collect the project page's Table 5, the published numbers beside."""
    input:
        unpack(threat_files.recovery),
        published="config/published/recovery.csv",
    output:
        recovery="<results>/{suite}/recovery.csv",
    log:
        "<logs>/{suite}/collect_recovery.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        families=parameters.families,
        left_out=threat_files.left_out,
        code=code("collect_recovery.py"),
    message:
        "Collect the recovery table of the {wildcards.suite} suite"
    script:
        "../scripts/collect_recovery.py"


rule render_recovery:
    """Render the recovery table as LaTeX, the published numbers below."""
    input:
        recovery="<results>/{suite}/recovery.csv",
        published="config/published/recovery.csv",
    output:
        tex="<results>/{suite}/recovery.tex",
    log:
        "<logs>/{suite}/render_recovery.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        code=code.titled("render_recovery.py"),
    message:
        "Render the recovery table of the {wildcards.suite} suite"
    script:
        "../scripts/render_recovery.py"


rule plot_handling:
    """Tabulate and plot standalone accuracy after what people do to weights."""
    input:
        handling=threat_files.handling,
    output:
        csv="<results>/{suite}/handling.csv",
        pdf="<results>/{suite}/handling.pdf",
        png=report(
            "<results>/{suite}/handling.png",
            caption="../report/threats.rst",
            category=artifacts.THREATS,
            labels={"content": "Handling"},
        ),
    log:
        "<logs>/{suite}/plot_handling.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        text=artifacts.ARTIFACTS["handling"].text,
        left_out=threat_files.left_out,
        code=code.handled("plot_handling.py"),
    message:
        "Plot what ordinary use does to the updates of the {wildcards.suite} suite"
    script:
        "../scripts/plot_handling.py"


rule judge_threats:
    """Put the claims about attacks and handling to the test (config/claims.yaml)."""
    input:
        claims="config/claims.yaml",
        tables=results.claimed_threats,
        published="config/published/recovery.csv",
    output:
        claims="<results>/{suite}/threat_claims.csv",
    log:
        "<logs>/{suite}/judge_threats.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code("judge_threats.py"),
    message:
        "Put the claims about attacks to the test on the {wildcards.suite} suite"
    script:
        "../scripts/judge_threats.py"


rule all_threats:
    """All about attacks and handling of the configured suite, under results/."""
    input:
        results.threats,
    localrule: True
