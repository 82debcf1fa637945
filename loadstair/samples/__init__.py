"""④ What happened: the request record, the run folder, the data frames. The room that measuring and thinking share."""
