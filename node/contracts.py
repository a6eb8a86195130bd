"""The contracts that this software knows, joined into the registry that every node executes with."""

from __future__ import annotations

from functools import lru_cache

from consortium.organisations import Organisations
from loyalty_contracts.certificate import Certificates
from loyalty_contracts.consent import Consent
from loyalty_contracts.points import Points
from vm.registry import Registry


@lru_cache(maxsize=1)
def registry() -> Registry:
    """All contracts; organisations and roles are those of the `organisations` contract."""
    return Registry([Organisations, Points, Certificates, Consent], authority=Organisations.name)
