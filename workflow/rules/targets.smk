"""What can be asked for: a suite's table by the suite's name, and what there is after each stage by its noun."""

for noun in NOUNS:

    rule:
        name:
            noun
        input:
            LAYOUT.files(noun, CONFIG.suite),
        localrule: True


for suite in SUITES:

    rule:
        name:
            suite
        input:
            LAYOUT.files("table", suite),
        localrule: True


if not IS_MODULE:

    rule unknown_target:
        """Refuse a word that is no target."""
        input:
            refuse,
        output:
            "{word}",
        wildcard_constraints:
            word="[^/.]+",
        localrule: True


# Behind all rules, for only then they hold for what pathvars stand for.
wildcard_constraints:
    images=one_of(LAYOUT.owners["images"]),
    autoencoder=one_of(LAYOUT.owners["autoencoder"]),
    latents=one_of(LAYOUT.owners["latents"]),
    train=one_of(LAYOUT.owners["train"]),
    sample=one_of(LAYOUT.owners["sample"]),
    loss=one_of(LAYOUT.owners["loss"]),
    scorer=one_of(LAYOUT.owners["scorer"]),
    score=f"({one_of(LAYOUT.owners['score'])})(/seed[0-9]+/[0-9]{{7,12}})?",
    table=one_of(LAYOUT.owners["table"]),
    seed="[0-9]+",
    step="[0-9]{7,12}",
