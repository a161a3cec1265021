"""What the terminal shows while jobs run, and at the end."""

from ditgta.terminal import Terminal

TERMINAL = Terminal(LAYOUT, logger) if workflow.is_main_process and not IS_MODULE else None


def asked_for():
    """Returns the suites that are to be made, and whether all of them is."""
    targets = set(workflow.dag_settings.targets) or {"all"}
    suites = [name for name in SUITES if name in targets]
    if "paper_table" in targets and "paper" in SUITES and "paper" not in suites:
        suites.append("paper")
    return suites or [CONFIG.suite], bool(suites) or "all" in targets


def watched_with(suites):
    """Returns the options by which `ditgta status` shows what this run makes."""
    default, words = Path(default_file(SNAKEFILE.parent)).resolve(), []
    if files := [str(file) for file in workflow.configfiles if Path(file).resolve() != default]:
        words += ["--configfile", *files]
    if suites[0] != CONFIG.suite:
        words += ["--suite", suites[0]]
    if ROOT != "results":
        words += ["--results", ROOT]
    return "".join(f" {shlex.quote(word)}" for word in words)


onstart:
    refuse_without_sbatch()
    suites, whole = asked_for()
    refuse_small_profile(suites if whole else [])
    LAYOUT.sources.save()
    if TERMINAL:
        TERMINAL.start(suites, whole, watched_with(suites))


onsuccess:
    if TERMINAL:
        TERMINAL.succeed()


onerror:
    if TERMINAL:
        TERMINAL.fail()
