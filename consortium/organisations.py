"""Organisations, their accounts and roles.

In this version they are those of the genesis document; changing them by proposal and vote comes with governance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from ledger.genesis import ROLES, Genesis
from vm.context import Context, Membership
from vm.contract import Cells, Map, NativeContract, fault, invariant, view
from vm.kinds import Address, ArrayKind, OptionalKind, OrganisationId, RecordKind, TextKind

Roles = Annotated[tuple[str, ...], ArrayKind(TextKind(32, shortest=1), 16)]


class OrganisationRecord(NamedTuple):
    """An organisation as its cell holds it."""

    name: Annotated[str, TextKind(128, shortest=1)]


class MemberRecord(NamedTuple):
    """An account's place: organisation and roles, ascending."""

    organisation: OrganisationId
    roles: Roles


OptionalMember = Annotated[MemberRecord | None, OptionalKind(RecordKind(MemberRecord))]


class Organisations(NativeContract, name="organisations", version=1):
    """Who belongs to which organisation, and may do what.

    - An account belongs to one organisation at most; an account of none is a consumer's.
    - Every member's organisation exists, and some member is an administrator.
    """

    # storage
    organisation: Map[OrganisationId, OrganisationRecord] = Map()
    member: Map[Address, MemberRecord] = Map()

    # errors
    unknown = fault("E-ORG-001", "there is no organisation {}", "list the organisations in the genesis document")

    # genesis
    def at_genesis(self, genesis: Genesis) -> None:
        """Writes the organisations and members of the genesis document."""
        for organisation in genesis.organisations:
            self.organisation[organisation.id] = OrganisationRecord(organisation.name)
            for member in organisation.members:
                self.member[member.address] = MemberRecord(organisation.id, member.roles)

    # authority (vm.context.Authority)
    def membership(self, account: bytes) -> Membership | None:
        """Organisation and roles of an account, or None for a consumer's."""
        record = self.member.get(account)
        return None if record is None else Membership(record.organisation, record.roles)

    # views
    @view
    def show(self, ctx: Context, organisation: OrganisationId) -> OrganisationRecord:
        """The organisation of that id."""
        record = self.organisation.get(organisation)
        if record is None:
            raise self.unknown(organisation)
        return record

    @view
    def member_of(self, ctx: Context, account: Address) -> OptionalMember:
        """The organisation and roles of an account, or null for a consumer's."""
        return self.member.get(account)

    # invariants
    @invariant
    def members_belong(self, cells: Cells) -> Iterator[str]:
        """Every member's organisation exists, its roles are known, and there is an administrator."""
        organisations = {key for key, _ in cells.of(self.organisation)}
        administrators = 0
        for account, record in cells.of(self.member):
            administrators += "administrator" in record.roles
            if record.organisation not in organisations:
                yield f"member {account.hex()} belongs to {record.organisation!r}, which does not exist"
            if any(role not in ROLES for role in record.roles):
                yield f"member {account.hex()} has an unknown role among {record.roles!r}"
        if not administrators:
            yield "nobody is an administrator"
