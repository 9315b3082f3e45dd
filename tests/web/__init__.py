"""The web client's modules without a browser, in Node.js."""
