"""The configuration: from YAML to `broker.core.tenant.Settings`, or to a list of everything that is wrong with it.

In the order of the way: `source` (a tree with places), `references` (${ENV:}, ${FILE:}), `overlay` (environments),
`fit` (what a scalar means), `model` with `client`, `connection`, `types`, `addresses` (what may be there), `checks`
(cross-references), `wording` and `problems` (what is said), `build` (the core's types), all called by `load`.
Generated from the models: `schema`, `render`; from loaded settings: `effective`.
"""
