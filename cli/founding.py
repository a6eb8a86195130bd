"""Founding a network by members who do not trust each other: composing the genesis document, and finding oneself in it.

Rules kept here:
- the document follows from the members' files, the chain's id and the parameters alone, in whatever order they are
  given: each member composes it, and all compare one number, its id;
- it begins at the time of the latest file;
- every member has one seat, power 1, one node, and one account, which administers; two members share nothing;
- a home takes the document only where its own validator key and node key are in it, for one organisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cli.key_access import DEV_PREFIX
from cli.member_file import FoundingMember
from cli.new_home import FIRST_ROLES, Brand, Seat, compose_genesis
from ledger.errors import Invalid, NotFound, define
from ledger.genesis import Genesis, Member, Parameters
from node import keystore
from node.config import Config
from node.home import Home
from node.network.node_key import load_node_key

MISMATCH = define("E-MEMBER-004", "the members' files do not fit together", "have the member named make its file again")
BAD_PARAMETER = define("E-MEMBER-005", "not a parameter of a chain", "see the parameters of a genesis document")


def compose(chain_id: str, members: Sequence[FoundingMember], parameters: Parameters | None = None) -> Genesis:
    """The genesis document of these members. Raises Invalid (E-MEMBER-004, E-GENESIS-001)."""
    for member in members:
        if member.chain_id not in ("", chain_id):
            raise Invalid(MISMATCH, f"the file of {member.organisation} is for the chain {member.chain_id}")
    _distinct("the organisation", [(member.organisation, member.organisation) for member in members])
    _distinct("the account", [(member.account, member.organisation) for member in members])
    _distinct("the validator's key", [(member.validator, member.organisation) for member in members])
    _distinct("the node's certificate", [(member.certificate, member.organisation) for member in members])
    _distinct("the node's address", [(a, member.organisation) for member in members for a in set(member.addresses)])
    ordered = sorted(members, key=lambda member: member.organisation)
    brands = [Brand(each.organisation, each.name, (Member(each.account, FIRST_ROLES),)) for each in ordered]
    seats = [Seat(each.organisation, each.validator, each.certificate, each.addresses) for each in ordered]
    time_ms = max((member.time_ms for member in members), default=0)
    return compose_genesis(chain_id, time_ms, brands, {}, parameters, seats)


def parameters_of(given: Mapping[str, int]) -> Parameters:
    """The default parameters with those `given`. Raises Invalid (E-MEMBER-005) for one that there is not."""
    for name in given:
        if name not in Parameters._fields:
            raise Invalid(BAD_PARAMETER, f"there is no parameter {name!r:.60}; {', '.join(Parameters._fields)}")
    return Parameters()._replace(**given)


class Own(NamedTuple):
    """What of a home is in a genesis document: the organisation its validator key and its node key stand for, or None.

    `missing` says in words what is not there, and what does not fit.
    """

    validator: str | None
    node: str | None
    missing: tuple[str, ...]


def own_part(home: Home, config: Config, genesis: Genesis) -> Own:
    """Looks a home up in a genesis document. Needs no passphrase. Raises what reading the keys raises."""
    missing = []
    reference = config.validator.key
    validator = node = None
    try:
        if reference.startswith(DEV_PREFIX):
            public_key = keystore.dev_key(reference.removeprefix(DEV_PREFIX)).public.hex()
        else:
            public_key = keystore.find(home.keys, reference).public_key
        validator = next((v.organisation for v in genesis.validators if v.public_key.hex() == public_key), None)
        if validator is None:
            missing.append(f"the validator's key of this home, {reference}, is not in it")
    except NotFound:
        missing.append(f"this home has no validator's key {reference}")
    if genesis.nodes:
        try:
            certificate = load_node_key(home).certificate
            node = next((each.organisation for each in genesis.nodes if each.certificate == certificate), None)
            if node is None:
                missing.append("the node key of this home is not in it")
        except NotFound:
            missing.append("this home has no node key")
    if validator is not None and node is not None and validator != node:
        missing.append(f"the validator's key of this home is that of {validator} there, and its node key of {node}")
    return Own(validator, node, tuple(missing))


def _distinct(what: str, values: Iterable[tuple[object, str]]) -> None:
    seen: dict[object, str] = {}
    for value, organisation in values:
        if value in seen:
            shown = f" {value}" if isinstance(value, str) else ""
            raise Invalid(MISMATCH, f"{what}{shown} is given twice, by {seen[value]} and by {organisation}")
        seen[value] = organisation
