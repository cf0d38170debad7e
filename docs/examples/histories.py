"""Could what clients saw be the answers of one store that does one thing at a time?"""

from pgraft.sim import Operation, OperationKind, Verdict, check_linearizability

# Times are of any clock that all clients share.
put = Operation(OperationKind.PUT, "x", "1", called=0, returned=1)
fresh = Operation(OperationKind.GET, "x", called=2, returned=3, read="1")
stale = Operation(OperationKind.GET, "x", called=2, returned=3, read=None)

assert check_linearizability([put, fresh]).verdict is Verdict.LINEARIZABLE
assert check_linearizability([put, stale]).verdict is Verdict.NOT_LINEARIZABLE
print("the stale read was found")
