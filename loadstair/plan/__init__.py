"""① What was asked: the plan, parsed with every mistake at once, its staircase and its workload."""
