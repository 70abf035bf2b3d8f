# Figures, as PDF for print and PNG for the screen, each with the numbers that it shows as CSV.
#
# All show adapters of one backbone (figures.backbone of the suite).


rule plot_figure2:
    """Plot Figure 2: loss and accuracy of one task over the scale of its update."""
    input:
        sweeps=lambda w: scale_sweeps(w.suite),
        zero_shot=lambda w: figure_zero_shot(w.suite)[0],
    output:
        pdf="results/{suite}/figure2.pdf",
        png=report(
            "results/{suite}/figure2.png",
            caption="../report/figure2.rst",
            category="Figures",
            labels={"figure": "Figure 2"},
        ),
        csv="results/{suite}/figure2.csv",
    log:
        "logs/{suite}/plot_figure2.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        task=lambda w: suite_of(w)["figures"]["task"],
        seed=lambda w: seed_of(w),
        code=code("plot_figure2.py"),
    message:
        "Plot Figure 2 of the {wildcards.suite} suite: loss and accuracy over the scale"
    script:
        "../scripts/plot_figure2.py"


rule plot_figure5:
    """Plot Figure 5: the uniform-averaging proxy, s = 1/N, one panel a task."""
    input:
        sweeps=lambda w: scale_sweeps(w.suite),
        zero_shot=lambda w: figure_zero_shot(w.suite),
    output:
        pdf="results/{suite}/figure5.pdf",
        png=report(
            "results/{suite}/figure5.png",
            caption="../report/figure5.rst",
            category="Figures",
            labels={"figure": "Figure 5"},
        ),
        csv="results/{suite}/figure5.csv",
    log:
        "logs/{suite}/plot_figure5.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        seed=lambda w: seed_of(w),
        code=code("plot_figure5.py"),
    message:
        "Plot Figure 5 of the {wildcards.suite} suite: the uniform-averaging proxy"
    script:
        "../scripts/plot_figure5.py"


rule plot_figure3:
    """Plot Figure 3: accuracy on two tasks along the path between their adapters."""
    input:
        pairs=lambda w: pair_mixes(w.suite),
        zero_shot=lambda w: figure_zero_shot(w.suite),
    output:
        pdf="results/{suite}/figure3.pdf",
        png=report(
            "results/{suite}/figure3.png",
            caption="../report/figure3.rst",
            category="Figures",
            labels={"figure": "Figure 3"},
        ),
        csv="results/{suite}/figure3.csv",
    log:
        "logs/{suite}/plot_figure3.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        pair=lambda w: artifacts.figure_pair(suite_of(w)),
        seed=lambda w: seed_of(w),
        code=code("plot_figure3.py"),
    message:
        "Plot Figure 3 of the {wildcards.suite} suite: between two adapters"
    script:
        "../scripts/plot_figure3.py"


rule plot_figure4:
    """Plot Figure 4: heat maps of every pair of adapters, merged at scale 0.8."""
    input:
        pairs=lambda w: pair_mixes(w.suite),
    output:
        pdf="results/{suite}/figure4.pdf",
        png=report(
            "results/{suite}/figure4.png",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "Figure 4"},
        ),
        csv="results/{suite}/figure4.csv",
    log:
        "logs/{suite}/plot_figure4.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        seed=lambda w: seed_of(w),
        code=code("plot_figure4.py"),
    message:
        "Plot Figure 4 of the {wildcards.suite} suite: pairwise merges"
    script:
        "../scripts/plot_figure4.py"


rule plot_figure6:
    """Plot Figure 6: the weights that Chain of Merges gives protected adapters."""
    input:
        merges=lambda w: data_merges(w.suite, [figures_backbone(w.suite)]),
    output:
        pdf="results/{suite}/figure6.pdf",
        png=report(
            "results/{suite}/figure6.png",
            caption="../report/figure6.rst",
            category="Figures",
            labels={"figure": "Figure 6"},
        ),
        csv="results/{suite}/figure6.csv",
    log:
        "logs/{suite}/plot_figure6.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        cells=lambda w: artifacts.data_columns(suite_of(w)),
        seed=lambda w: seed_of(w),
        code=code("plot_figure6.py"),
    message:
        "Plot Figure 6 of the {wildcards.suite} suite: weights of Chain of Merges"
    script:
        "../scripts/plot_figure6.py"


rule plot_figure7:
    """Plot Figure 7: change of the test loss as an update is scaled down."""
    input:
        sweeps=lambda w: scale_sweeps(w.suite),
    output:
        pdf="results/{suite}/figure7.pdf",
        png=report(
            "results/{suite}/figure7.png",
            caption="../report/figure7.rst",
            category="Figures",
            labels={"figure": "Figure 7"},
        ),
        csv="results/{suite}/figure7.csv",
    log:
        "logs/{suite}/plot_figure7.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        seed=lambda w: seed_of(w),
        code=code("plot_figure7.py"),
    message:
        "Plot Figure 7 of the {wildcards.suite} suite: scaling down"
    script:
        "../scripts/plot_figure7.py"


rule plot_figure8:
    """Plot Figure 8: the loss along the path between every pair of adapters."""
    input:
        pairs=lambda w: pair_mixes(w.suite),
    output:
        pdf="results/{suite}/figure8.pdf",
        png=report(
            "results/{suite}/figure8.png",
            caption="../report/figure8.rst",
            category="Figures",
            labels={"figure": "Figure 8"},
        ),
        csv="results/{suite}/figure8.csv",
    log:
        "logs/{suite}/plot_figure8.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        seed=lambda w: seed_of(w),
        code=code("plot_figure8.py"),
    message:
        "Plot Figure 8 of the {wildcards.suite} suite: paths between adapters"
    script:
        "../scripts/plot_figure8.py"
