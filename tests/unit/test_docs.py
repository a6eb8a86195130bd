"""The documents name what exists: modules, routes, metrics, settings, codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.errors import CODES
from node.config import SETTINGS
from scripts.generate_docs import import_everything
from tests.unit.test_project import PACKAGES, ROOT, files

DOCS = ROOT / "docs"
WRITTEN = ("README.md", "CONTRIBUTING.md", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")))


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """What stands below a heading, up to the next of the same level or higher."""
    level = heading.partition(" ")[0]
    _, found, rest = text(document).partition(f"\n{heading}\n")
    assert found, f"{document} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.MULTILINE)[0]


# Architecture


def modules_in_the_tree() -> list[str]:
    """The paths of the modules that the tree in docs/architecture.md names."""
    found: list[str] = []
    folders: list[str] = []
    for line in section("docs/architecture.md", "## The tree").partition("<!-- tree: end -->")[0].splitlines():
        named = re.match(r"    ( *)(\w+/|\w+\.py)(?: |$)", line)
        if named is None:
            continue
        depth, name = len(named[1]) // 2, named[2]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            found.append("".join(folders) + name)
    return found


def test_the_tree_names_every_module_and_no_other() -> None:
    here = [path.relative_to(ROOT).as_posix() for path in files(*PACKAGES) if path.name != "__init__.py"]
    assert sorted(modules_in_the_tree()) == here


def names_of_code(document: str) -> list[str]:
    """Paths and dotted names in backticks that begin with a package and are no settings."""
    packages = "|".join(PACKAGES)
    found = re.findall(rf"`((?:{packages})(?:/[\w/]+\.py|(?:\.\w+)+))`", text(document))
    return [name for name in found if name not in {setting.key for setting in SETTINGS}]


@pytest.mark.parametrize("document", WRITTEN)
def test_named_modules_and_functions_exist(document: str) -> None:
    from importlib import import_module

    missing = []
    for name in names_of_code(document):
        if name.endswith(".py"):
            if not (ROOT / name).is_file():
                missing.append(name)
            continue
        parts = name.split(".")
        holder: object = import_module(parts[0])
        for index, part in enumerate(parts[1:], 2):
            if (ROOT.joinpath(*parts[:index]).with_suffix(".py")).is_file() or ROOT.joinpath(*parts[:index]).is_dir():
                holder = import_module(".".join(parts[:index]))
            elif not hasattr(holder, part):
                missing.append(name)
                break
            else:
                holder = getattr(holder, part)
    assert missing == []


METHODS = {
    "BlockExecution": "vm.executor",
    "Chain": "node.chain",
    "KeyValue": "node.keyvalue",
    "LedgerStore": "node.ledger_store",
    "Mempool": "node.mempool",
    "Engine": "consensus.engine",
    "Registry": "vm.registry",
    "StateTree": "ledger.state_tree",
    "Submissions": "node.submission",
    "Verifier": "node.verifier",
}


def test_named_methods_exist() -> None:
    from importlib import import_module

    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", text("docs/architecture.md"))) - {("Chain", "head")}
    assert {holder for holder, _ in named} == set(METHODS)
    missing = [name for holder, name in named if not hasattr(getattr(import_module(METHODS[holder]), holder), name)]
    assert missing == []


@pytest.mark.parametrize("document", WRITTEN)
def test_named_codes_are_registered(document: str) -> None:
    import_everything()  # modules register their codes when they are imported
    named = set(re.findall(r"\bE-[A-Z0-9]+-[0-9]{3}\b", text(document)))
    assert named - set(CODES) == set()


@pytest.mark.parametrize("document", WRITTEN)
def test_links_to_headings_lead_somewhere(document: str) -> None:
    dead = []
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text(document)):
        path = (ROOT / document).parent / target if target else ROOT / document
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in {slug(heading) for heading in headings}:
            dead.append(f"{target}#{anchor}")
    assert dead == []


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", path.read_text(encoding="utf-8")):
            linked = (path.parent / target).resolve()
            if linked.is_dir():
                waiting += linked.glob("*.md")
            elif linked.suffix == ".md":
                waiting.append(linked)
    assert {path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md") if path not in reached} == set()


# API


def test_the_tour_names_every_route_and_no_other() -> None:
    from node.api.openapi import document
    from node.contracts import registry

    tour = text("docs/api.md")
    routes = set(document(registry())["paths"])
    named = {route.removeprefix("$NODE") for route in re.findall(r"(?:/v1|/health|/metrics|/openapi)[\w/{}.]*", tour)}
    assert {route for route in routes if route not in named} == set()
    patterns = [re.compile(re.sub(r"\{\w+\}", r"[\\w{}]+", route)) for route in routes]
    assert {route for route in named if not any(pattern.fullmatch(route.rstrip("/.")) for pattern in patterns)} == set()


def test_the_tour_names_every_metric_and_no_other() -> None:
    from node.metrics import Metrics

    shown = Metrics().render().decode()
    metrics = set(re.findall(r"^# TYPE (troth_\w+) ", shown, re.MULTILINE))
    metrics = {name for name in metrics if not name.endswith("_created")}
    named = set(re.findall(r"`(troth_\w+)", text("docs/api.md")))
    assert named == metrics


def test_limits_in_the_tour_are_the_defaults() -> None:
    defaults = {setting.key: setting.default for setting in SETTINGS}
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$", section("docs/api.md", "## Limits"), re.MULTILINE)
    checked = set()
    for amounts, settings in rows:
        keys = re.findall(r"`([\w.]+)`", settings)
        numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", amounts)]
        if keys:
            assert numbers == [defaults[key] for key in keys]
            checked.update(keys)
    bounded = {key for key in defaults if key.startswith(("api.", "mempool."))}
    assert bounded - checked == {"api.host", "api.port", "api.url", "api.timeout_ms"}


def test_fixed_limits_in_the_tour_are_those_of_the_server() -> None:
    from ledger.transaction import MAX_ACTORS, MAX_CALLS, MAX_TRANSACTION_BYTES
    from node.api.chain import EXPORT_BYTES
    from node.api.server import ApiLimits
    from node.api.stream import SILENCE_SECONDS
    from node.service import STALE_HEARTBEATS

    limits, tour = ApiLimits(), " ".join(text("docs/api.md").split())
    for claim in (
        f"| event streams | {limits.streams} | fixed |",
        f"| waiting for transactions to end | {limits.wait_seconds_max * 1000:,.0f} ms | fixed |",
        f"| one transaction | {MAX_TRANSACTION_BYTES:,} bytes, {MAX_CALLS:,} calls, {MAX_ACTORS} actors |",
        f"about {EXPORT_BYTES >> 20} MiB | fixed |",
        f"line every {SILENCE_SECONDS} seconds of silence",
        "younger than four heartbeats" if STALE_HEARTBEATS == 4 else "",
    ):
        assert claim and claim in tour


def test_the_tour_signs_a_transaction() -> None:
    from ledger.keys import verify_many
    from ledger.transaction import decode
    from node.contracts import registry

    (program,) = re.findall(r"^```python\n(.*?)^```$", text("docs/api.md"), re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", program, "dev-example", "order-17"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    signed = decode(bytes.fromhex(done.stdout.strip()))
    assert verify_many(signed.signature_checks()) == [True]
    assert signed.transaction.chain_id == "dev-example"
    assert signed.transaction.calls[0].arguments[-1] == "order-17"
    method, reference = registry().validate_call(signed.transaction.calls[0])
    assert (method.name, reference) == ("transfer", "order-17")
