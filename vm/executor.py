"""The executor: transactions and blocks, in, receipts and changed cells, out. Deterministic and pure.

A block is executed by `BlockExecution`: `admit` each transaction by the rules of block validity, `apply` it, then
`finish`. The one that proposes a block leaves out what `admit` refuses; everyone else refuses the block for it.

Rules kept here:
- a transaction's calls all take effect or none does; either way it has a receipt;
- gas is charged before the work; a transaction is admitted against its gas *limit*, so admission never depends on
  what execution will do;
- an organisation may use `organisation_gas` per block, an account without one `consumer_gas`; the last
  `reserved_gas` of a block is kept for administrators, so they can act under flood;
- an id is taken once within its validity: the caller's `is_known` answers for earlier blocks;
- MemoryError, RecursionError and a `Fault` of storage are never a result: they stop the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ledger import codec, merkle
from ledger.address import to_text
from ledger.errors import Fault, Invalid, Refused, define
from ledger.genesis import Genesis, Parameters
from ledger.receipt import Receipt
from ledger.transaction import SignedTransaction, check_chain, check_validity
from vm import gas
from vm.context import (
    CONTRACT_BROKEN,
    Authority,
    BlockInfo,
    Context,
    ContractFault,
    HostExhausted,
)
from vm.contract import NativeContract, fault
from vm.overlay import Overlay, Read
from vm.registry import Registry

DUPLICATE = define("E-TX-006", "transaction already included", "nothing to do: look it up with `troth tx show`")
GAS_LIMIT = define(
    "E-TX-011",
    "gas limit out of range",
    "choose a gas limit between the transaction's base cost and the block's",
)
QUOTA = define(
    "E-TX-012",
    "quota of this block used up",
    "wait for the next block; the node keeps the transaction until then",
)
BLOCK_FULL = define(
    "E-TX-013", "the block is full", "wait for the next block; the node keeps the transaction until then"
)
REFERENCE_USED = fault("E-VM-006", "reference {} was used in block {}", "nothing to do: the operation was done before")
NO_ROLE = fault("E-VM-007", "the role {} is needed for {}", "ask an administrator of your organisation for the role")
HOST_EXHAUSTED = define("E-VM-008", "the host is exhausted", "give the node more memory and start it again")


class BlockResult(NamedTuple):
    """What a block did: receipts in order, changed cells (key, value or None), gas used, RFC 6962 root of receipts."""

    receipts: tuple[Receipt, ...]
    encoded_receipts: tuple[bytes, ...]
    changes: list[tuple[bytes, bytes | None]]
    gas_used: int
    receipts_root: bytes


class BlockExecution:
    """One block being executed over its parent's state. `is_known` tells whether an id was included before."""

    def __init__(
        self,
        registry: Registry,
        parameters: Parameters,
        block: BlockInfo,
        read: Read,
        is_known: Callable[[bytes], bool],
    ) -> None:
        self.registry = registry
        self.parameters = parameters
        self.block = block
        self.overlay = Overlay(read)
        self.contracts: dict[str, NativeContract] = {
            name: contract(self.overlay) for name, contract in registry.contracts.items()
        }
        self.authority: Authority = self.contracts[registry.authority]  # type: ignore[assignment]
        self.receipts: list[Receipt] = []
        self.bytes_used = 0
        self.gas_reserved = 0
        self._is_known = is_known
        self._included: dict[bytes, None] = {}
        self._gas_by_payer: dict[str | bytes, int] = {}

    def admit(self, signed: SignedTransaction) -> None:
        """Raises Refused or Invalid unless the transaction may stand next in this block.

        E-TX-003 other chain, -004 and -005 validity, -006 duplicate, -011 gas limit, -012 quota, -013 block full.
        Signatures are not judged here: `ledger.transaction.check_signatures`.
        """
        transaction, limits = signed.transaction, self.parameters
        check_chain(transaction, self.block.chain_id)
        check_validity(transaction, self.block.time_ms, limits.validity_window_ms)
        size = len(signed.raw)
        limit = transaction.gas_limit
        if limit < gas.intrinsic(size) or limit > limits.block_gas - limits.reserved_gas:
            raise Invalid(
                GAS_LIMIT,
                f"gas limit {limit}: this transaction costs {gas.intrinsic(size)} before its first call,"
                f" and a block holds {limits.block_gas - limits.reserved_gas}",
            )
        payer = transaction.actors[0]
        member = self.authority.membership(payer)
        used = self.gas_reserved + limit
        lane = limits.block_gas
        if member is None or "administrator" not in member.roles:
            lane -= limits.reserved_gas
        if (
            used > lane
            or self.bytes_used + size > limits.block_bytes
            or len(self.receipts) >= limits.block_transactions
        ):
            raise Refused(BLOCK_FULL, f"no room for {limit} gas and {size} bytes")
        account: str | bytes = payer if member is None else member.organisation
        quota = limits.consumer_gas if member is None else limits.organisation_gas
        mine = self._gas_by_payer.get(account, 0) + limit
        if mine > quota:
            who = to_text(payer) if member is None else member.organisation
            raise Refused(QUOTA, f"{who} may use {quota} gas a block, this would make {mine}")
        if signed.id in self._included or self._is_known(signed.id):
            raise Refused(DUPLICATE, f"transaction {signed.id.hex()} is in the chain already")
        self._gas_by_payer[account] = mine
        self._included[signed.id] = None
        self.gas_reserved = used
        self.bytes_used += size

    def apply(self, signed: SignedTransaction) -> Receipt:
        """Executes an admitted transaction and returns its receipt. Raises Fault, and nothing else."""
        transaction = signed.transaction
        overlay = self.overlay
        mark = overlay.mark()
        limit = transaction.gas_limit
        ctx = Context(self.block, self.authority, signed.id, transaction.actors, limit - gas.intrinsic(len(signed.raw)))
        code = ""
        detail: tuple[Any, ...] = ()
        failed: int | None = None
        results: list[Any] = []
        index = 0
        try:
            for index, call in enumerate(transaction.calls):  # noqa: B007 - names the call that failed
                results.append(self._call(ctx, call))
        except ContractFault as problem:
            code, detail, failed = problem.code, problem.detail, index
        except Invalid as problem:
            code, failed = problem.code, index  # never its text: rewording a message must not fork the chain
        except (MemoryError, RecursionError) as problem:
            raise HostExhausted(
                HOST_EXHAUSTED, f"{type(problem).__name__} while executing {signed.id.hex()}"
            ) from problem
        except Fault:  # a disk or database that failed this node fails no other: never a result
            raise
        except Exception:  # noqa: BLE001 - a defect of a contract is the same on every node: a receipt, not a halt
            code, failed = CONTRACT_BROKEN, index
        if code:
            overlay.undo(mark)
            receipt = Receipt(signed.id, code, detail, failed, limit - max(ctx.gas_left, 0), (), ())
        else:
            receipt = Receipt(signed.id, "", (), None, limit - ctx.gas_left, tuple(ctx.events), tuple(results))
        self.receipts.append(receipt)
        return receipt

    def _call(self, ctx: Context, call: Any) -> Any:
        found, reference = self.registry.validate_call(call)
        ctx.charge(found.gas)
        ctx.actor = actor = ctx.actors[call.actor]
        ctx.contract = call.contract
        contract = self.contracts[call.contract]
        if found.role:
            member = self.authority.membership(actor)
            if member is None or found.role not in member.roles:
                raise NO_ROLE(found.role, f"{call.contract}.{call.method}")
        arguments = call.arguments
        if reference is not None:
            key = (actor, reference)
            done = contract.references.get(key)
            if done is not None:
                raise REFERENCE_USED(reference, done)
            contract.references[key] = ctx.block.height
            arguments = arguments[:-1]
        return found.function(contract, ctx, *arguments)

    def finish(self) -> BlockResult:
        """Receipts, changed cells and the receipts root of everything applied."""
        encoded = tuple([codec.encode(receipt) for receipt in self.receipts])
        return BlockResult(
            tuple(self.receipts),
            encoded,
            self.overlay.changes(),
            sum(receipt.gas_used for receipt in self.receipts),
            merkle.root(encoded),
        )


def execute_genesis(registry: Registry, genesis: Genesis) -> list[tuple[bytes, bytes | None]]:
    """The cells of the state at height 0: what each contract's `at_genesis` writes, in order of contract name."""
    execution = BlockExecution(
        registry,
        genesis.parameters,
        BlockInfo(genesis.chain_id, 0, genesis.time_ms),
        lambda key: None,
        lambda _: False,
    )
    for contract in execution.contracts.values():
        begin = getattr(contract, "at_genesis", None)
        if begin is not None:
            begin(genesis)
    return execution.finish().changes


def run_view(
    registry: Registry, block: BlockInfo, read: Read, contract: str, name: str, arguments: tuple[Any, ...]
) -> Any:
    """What a view returns on the state that `read` reads. Raises Invalid for a wrong call, or as the view does."""
    found = registry.method(contract, name, is_view=True)
    overlay = Overlay(read)
    instances = {key: each(overlay) for key, each in registry.contracts.items()}
    authority: Authority = instances[registry.authority]  # type: ignore[assignment]
    ctx = Context(block, authority, b"", (b"",), gas.VIEW_LIMIT)
    ctx.contract = contract
    return found.function(instances[contract], ctx, *arguments)
