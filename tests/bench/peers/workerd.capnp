# The Durable Object room under workerd: as service "plain" (nothing stored) and as
# "stored" (SQLite on disk). The address and the folder come from the command line:
# workerd serve --socket-addr plain=127.0.0.1:PORT --directory-path disk=FOLDER ...
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "plain", worker = .plain),
    (name = "stored", worker = .stored),
    (name = "disk", disk = (writable = true)),
  ],
  sockets = [
    (name = "plain", http = (), service = "plain"),
    (name = "stored", http = (), service = "stored"),
  ],
);

const plain :Workerd.Worker = (
  modules = [(name = "room", esModule = embed "durable_object.js")],
  compatibilityDate = "2026-01-01",
  durableObjectNamespaces = [(className = "Room", uniqueKey = "bench-plain")],
  durableObjectStorage = (inMemory = void),
  bindings = [(name = "ROOM", durableObjectNamespace = "Room")],
);

const stored :Workerd.Worker = (
  modules = [(name = "room", esModule = embed "durable_object.js")],
  compatibilityDate = "2026-01-01",
  durableObjectNamespaces = [
    (className = "Room", uniqueKey = "bench-stored", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [
    (name = "ROOM", durableObjectNamespace = "Room"),
    (name = "STORED", text = "yes"),
  ],
);
