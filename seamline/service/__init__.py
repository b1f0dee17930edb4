"""`seamline serve`: what the classifier says, over HTTP. Needs the extra `server`; nothing else here imports this.

serve.py         the command: binds, starts, and ends well
protocol.py      connections: too many, too slow, heads too long
guard.py         who may ask: token, host names, other pages
app.py           the routes; reads bodies within limits.py, and hands everything else to a worker
pool.py          workers, each a process of its own: a picture that crashes its reader costs one request
worker.py        such a process: forms.py, answers.py, tensors.py, corrections.py
releases.py      which bundle serves, and the change to a new one
metrics.py, description.py   what Prometheus and OpenAPI read
"""
