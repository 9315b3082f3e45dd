"""The HTTP and WebSocket edge: routes, envelope, sockets, links, fan-out.

Holds connections and no room state, and knows nothing of Ray: it never imports
`actors`, only the namespace port and link framing of `cfmessenger`.
"""
