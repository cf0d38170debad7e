"""What `pgraft check` looks at: whatever would break a failover, found before it is needed.

`facts` asks each member's server once; the other modules judge what is known and say what to do
about it. None of them changes anything.
"""
