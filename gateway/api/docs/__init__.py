"""The documents: OpenAPI, AsyncAPI, and the page at /docs that shows both.

Made from the types and tables the gateway runs on; nothing here serves a client's
request but its own documents.
"""
