"""Organisations and roles, as the genesis document sets them."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.organisations import MemberRecord, OrganisationRecord, Organisations
from tests.harness import HOLDER, ROASTER, ROASTER_ADMIN, Chain, genesis, raises_fault
from vm.context import Membership
from vm.overlay import Overlay


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_genesis_is_written_in_full(chain: Chain) -> None:
    for organisation in genesis().organisations:
        assert chain.view("organisations.show", organisation.id) == OrganisationRecord(organisation.name)
        for member in organisation.members:
            shown = chain.view("organisations.member_of", member.address)
            assert shown == MemberRecord(organisation.id, member.roles)
    assert chain.broken() == []


def test_a_consumer_belongs_nowhere(chain: Chain) -> None:
    assert chain.view("organisations.member_of", HOLDER) is None


def test_an_unknown_organisation(chain: Chain) -> None:
    with raises_fault("E-ORG-001"):
        chain.view("organisations.show", "nobody")


def test_the_authority_answers_for_accounts(chain: Chain) -> None:
    contract = Organisations(Overlay(chain.cells.get))
    assert contract.membership(ROASTER) == Membership("roaster", ("issuer",))
    assert contract.membership(HOLDER) is None


@pytest.mark.parametrize(
    ("cell_map", "key", "value", "complaint"),
    [
        ("member", ROASTER_ADMIN, None, "nobody is an administrator"),
        ("member", ROASTER, ("nobody", ("issuer",)), "belongs to 'nobody', which does not exist"),
        ("member", ROASTER, ("roaster", ("emperor",)), "has an unknown role"),
        ("organisation", "grocer", None, "belongs to 'grocer', which does not exist"),
    ],
)
def test_invariants_find(chain: Chain, cell_map: str, key: Any, value: Any, complaint: str) -> None:
    chain.overwrite("organisations", cell_map, (key,), value)
    assert any(complaint in sentence for sentence in chain.broken()), chain.broken()
