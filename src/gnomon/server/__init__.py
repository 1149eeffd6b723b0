"""`gnomon serve`: the same jobs over HTTP, with warm workers, webhooks, and the replaced systems' APIs.

    settings     what the server was told            service    the functions behind every route
    app          FastAPI, errors, middleware         engine     the thread that runs the reconciler
    listeners    sockets, start and end              routes/    /v1, one file a topic
    access       who may do what                     facades/   one file for each replaced system's API
    uploads      files by their hash                 webhooks/  signed messages, retried until delivered
    retention    what is deleted, and when           metrics    for Prometheus

The server owns no truth: jobs are folders, and a server that is killed is replaced by starting another.
"""
