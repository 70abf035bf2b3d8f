# Comparison: what a run says about the paper's claims, and its numbers beside the published ones.
#
# Needs all tables and figures of a suite; makes claims.csv, comparison.csv and comparison.md.
# A table that the suite cannot have leaves the claims that are tested on it untested.


rule judge_claims:
    """Put the paper's claims to the test (config/claims.yaml)."""
    input:
        claims="config/claims.yaml",
        tables=results.claimed,
        published=PUBLISHED,
    output:
        claims="<results>/{suite}/claims.csv",
    log:
        "<logs>/{suite}/judge_claims.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code("judge_claims.py"),
    message:
        "Put the paper's claims to the test on the {wildcards.suite} suite"
    script:
        "../scripts/judge_claims.py"


rule compare_results:
    """Set a suite's tables beside the published ones: differences, or the pattern."""
    input:
        claims="<results>/{suite}/claims.csv",
        tables=expand("<results>/{{suite}}/table{number}.csv", number=paper.TABLES),
        published=PUBLISHED,
    output:
        comparison="<results>/{suite}/comparison.csv",
        page="<results>/{suite}/comparison.md",
    log:
        "<logs>/{suite}/compare_results.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        # A suite of the paper's datasets has numbers to compare; another one has a pattern.
        numbers=parameters.has_published_numbers,
        families=parameters.families,
        code=code.titled("compare_results.py"),
    message:
        "Compare the {wildcards.suite} suite with the published numbers"
    script:
        "../scripts/compare_results.py"
