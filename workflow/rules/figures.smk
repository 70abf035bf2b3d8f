# Figures, as PDF for print and PNG for the screen.


rule plot_figure2:
    """Plot Figure 2: loss and accuracy of one task over the scale of its update."""
    input:
        profiles=lambda w: scale_profiles(w.suite),
        zero_shot=lambda w: figure_zero_shot(w.suite)[0],
    output:
        pdf="results/{suite}/figure2.pdf",
        png="results/{suite}/figure2.png",
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
        figures=lambda w: suite_of(w)["figures"],
        code=code("plot_figure2.py"),
    message:
        "Plot Figure 2 of the {wildcards.suite} suite: loss and accuracy over the scale"
    script:
        "../scripts/plot_figure2.py"


rule plot_figure5:
    """Plot Figure 5: the uniform-averaging proxy, s = 1/N, one panel a task."""
    input:
        profiles=lambda w: scale_profiles(w.suite),
        zero_shot=lambda w: figure_zero_shot(w.suite),
    output:
        pdf="results/{suite}/figure5.pdf",
        png="results/{suite}/figure5.png",
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
        figures=lambda w: suite_of(w)["figures"],
        code=code("plot_figure5.py"),
    message:
        "Plot Figure 5 of the {wildcards.suite} suite: the uniform-averaging proxy"
    script:
        "../scripts/plot_figure5.py"
