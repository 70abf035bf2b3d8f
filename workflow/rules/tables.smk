# Tables, in the paper's layouts, and their publication under results/.
#
# Tables 1 and 2 show adapters, Tables 3 and 4 whole checkpoints, as CSV and as LaTeX.  A table that
# a suite cannot have is made and says why; trap2/suites/artifacts.py knows which.


rule make_table:
    """Make a table of the paper, in the layout of its kind."""
    input:
        unpack(files.table),
    output:
        table="<results>/{suite}/table{number}.csv",
    log:
        "<logs>/{suite}/make_table/{number}.log",
    wildcard_constraints:
        number=paper.pattern(),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        kind=parameters.table_kind,
        settings=parameters.table,
        not_applicable=files.table_not_applicable,
        code=code("make_table.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: {params.kind}"
    script:
        "../scripts/make_table.py"


rule render_table:
    """Render a table of a suite as LaTeX, in the paper's layout."""
    input:
        table="<results>/{suite}/table{number}.csv",
        standalone=files.standalone(),
    output:
        tex="<results>/{suite}/table{number}.tex",
    log:
        "<logs>/{suite}/render_table/table{number}.log",
    wildcard_constraints:
        number=paper.pattern(),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        kind=parameters.table_kind,
        seed=parameters.seed,
        code=code.titled("render_table.py"),
    message:
        "Render Table {wildcards.number} of the {wildcards.suite} suite"
    script:
        "../scripts/render_table.py"


rule summarise_seeds:
    """Give mean and standard deviation over seeds of every number of a table."""
    input:
        tables=files.seed_tables,
    output:
        table="<results>/{suite}/seeds/table{number}.csv",
    log:
        "<logs>/{suite}/summarise_seeds/table{number}.log",
    wildcard_constraints:
        number=paper.pattern(),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seeds=parameters.seeds,
        code=code("summarise_seeds.py"),
    message:
        "Table {wildcards.number} of the {wildcards.suite} suite over all seeds"
    script:
        "../scripts/summarise_seeds.py"


use rule render_table as render_seeds with:
    input:
        table="<results>/{suite}/seeds/table{number}.csv",
        standalone=files.standalone("seeds/"),
    output:
        tex="<results>/{suite}/seeds/table{number}.tex",
    log:
        "<logs>/{suite}/render_seeds/table{number}.log",


rule render_published:
    """Render one of the paper's tables from its published numbers, in the same layout."""
    input:
        numbers="config/published/table{number}.csv",
        standalone=files.published_standalone,
    output:
        tex="<results>/published/table{number}.tex",
    log:
        "<logs>/published/render_published/table{number}.log",
    wildcard_constraints:
        number=paper.pattern(),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        kind=parameters.table_kind,
        code=code.titled("render_published.py"),
    message:
        "Render the published Table {wildcards.number}"
    script:
        "../scripts/render_published.py"


rule summarise_results:
    """Say in a few lines what Tables 1 and 2 show."""
    input:
        table1="<results>/{suite}/table1.csv",
        table2="<results>/{suite}/table2.csv",
        # Its digest, in the summary, is what a reader can keep.
        manifest="<results>/{suite}/manifest.json",
        trained=files.trained_records,
    output:
        summary="<results>/{suite}/summary.txt",
    log:
        "<logs>/{suite}/summarise_results.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        places=results.places(),
        seed=parameters.seed,
        code=code.titled("summarise_results.py"),
    message:
        "Summarise the {wildcards.suite} suite"
    script:
        "../scripts/summarise_results.py"


rule publish:
    """Copy an artifact of the configured suite to results/."""
    input:
        artifact=results.to_publish,
    output:
        artifact="<results>/{artifact,[a-z_]+[0-9]*\\.(csv|json|md|pdf|png|tex|txt)}",
    log:
        "<logs>/publish/{artifact}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        suite=configuration.suite,
        code=code("publish.py"),
    message:
        "Publish {wildcards.artifact} of the configured suite under results/"
    script:
        "../scripts/publish.py"
