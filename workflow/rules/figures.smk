# Figures, as PDF for print and PNG for the screen, each with the numbers that it shows as CSV.
#
# All show adapters of one backbone (figures.backbone of the suite).  What each is made from stands in
# trap2/suites/paper.py; trap2/report/figures/ has a module a figure.


rule plot_figure:
    """Plot a figure of the paper, with the numbers that it shows."""
    input:
        unpack(files.figure),
    output:
        pdf="<results>/{suite}/figure{number}.pdf",
        png=report(
            "<results>/{suite}/figure{number}.png",
            caption="../report/figure.rst",
            category=artifacts.FIGURE_PAGES,
            labels={"figure": "Figure {number}"},
        ),
        csv="<results>/{suite}/figure{number}.csv",
    log:
        "<logs>/{suite}/plot_figure/{number}.log",
    wildcard_constraints:
        number="|".join(map(str, paper.FIGURES)),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        settings=parameters.figure,
        seed=parameters.seed,
        title=lambda w: paper.FIGURES[int(w.number)].title,
        caption=lambda w: paper.FIGURES[int(w.number)].caption,
        code=lambda w: code("plot_figure.py", f"trap2/report/figures/figure{w.number}.py"),
    message:
        "Plot Figure {wildcards.number} of the {wildcards.suite} suite: {params.title}"
    script:
        "../scripts/plot_figure.py"
