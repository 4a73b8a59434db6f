"""The imports: files and directories of the user as content-addressed data, most of it left where it lies.

`transitions` and `lifecycle` decide, `lives` and `making` carry out, `agent.workers` does what is heavy; callers ask
`imports`.
"""
