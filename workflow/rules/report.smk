# The report's pages: tables and texts in a form that a browser shows.
#
# Needs a suite's artifacts; makes results/{suite}/pages/{artifact}.html. `report_pages` is what
# `make report` asks for before it calls Snakemake's own --report.


rule render_page:
    """Render a table or a text as a page of the report."""
    input:
        artifact="<results>/{suite}/{artifact}",
    output:
        page=report(
            "<results>/{suite}/pages/{artifact}.html",
            caption="../report/page.rst",
            category=lambda w: artifacts.PAGES[w.artifact].section,
            labels=lambda w: {"content": artifacts.PAGES[w.artifact].label},
        ),
    log:
        "<logs>/{suite}/render_page/{artifact}.log",
    wildcard_constraints:
        artifact="|".join(name.replace(".", "[.]") for name in artifacts.PAGES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        title=lambda w: f"{artifacts.PAGES[w.artifact].label}, {w.suite} suite",
        text=lambda w: artifacts.PAGES[w.artifact].text,
        code=code("render_page.py"),
    message:
        "Render {wildcards.artifact} of the {wildcards.suite} suite for the report"
    script:
        "../scripts/render_page.py"


rule report_pages:
    """All artifacts of the configured suite, with the report's pages."""
    input:
        results.everything,
        results.pages,
    localrule: True
