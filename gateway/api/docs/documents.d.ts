// What the reference page reads of the two documents that this gateway serves: of OpenAPI
// 3.1 and AsyncAPI 3.0 the parts that they use. For the type checker alone.

declare namespace Docs {
  interface Reference {
    $ref: string;
  }

  interface Schema {
    $ref?: string;
    /** The reader's: the last word of the reference that led here. */
    name?: string;
    type?: string;
    description?: string;
    properties?: Record<string, Schema>;
    required?: string[];
    items?: Schema;
    allOf?: Schema[];
    anyOf?: Schema[];
    const?: unknown;
    enum?: unknown[];
    default?: unknown;
    pattern?: string;
    minLength?: number;
    maxLength?: number;
    minItems?: number;
    maxItems?: number;
    minimum?: number;
    maximum?: number;
  }

  /** The schema with its references followed and its parts put together. */
  type Whole = (given?: Schema) => Schema;

  interface Content {
    schema: Schema;
    example?: unknown;
    examples?: Record<string, { summary: string; value: unknown }>;
  }

  interface Parameter {
    name: string;
    in: "path" | "query";
    required?: boolean;
    description?: string;
    schema: Schema;
    example?: string | number | boolean;
  }

  interface Response {
    description?: string;
    headers?: Record<string, unknown>;
    content?: Record<string, Content>;
  }

  interface Operation {
    operationId: string;
    summary: string;
    description?: string;
    tags: string[];
    security?: Record<string, unknown>[];
    parameters?: Parameter[];
    requestBody?: { content: Record<string, Content> };
    responses: Record<string, Response | Reference>;
  }

  interface OpenApi {
    info: { version: string; description: string };
    tags: { name: string; description: string }[];
    paths: Record<string, Record<string, Operation>>;
    components: { responses: Record<string, Response> };
    "x-everywhere": string[];
  }

  interface Channel {
    title: string;
    address: string;
    description: string;
    bindings?: { ws?: { query?: Schema } };
  }

  interface SocketMessage {
    title: string;
    summary: string;
    description?: string;
    payload: Schema;
    examples: { payload: unknown }[];
  }

  interface Action {
    action: "send" | "receive";
    channel: Reference;
    messages: Reference[];
    reply?: { messages: Reference[] };
  }

  interface AsyncApi {
    info: { description: string };
    channels: Record<string, Channel>;
    operations: Record<string, Action>;
    components: { messages: Record<string, SocketMessage> };
    "x-close-codes": { code: number; reconnect: boolean; description: string }[];
    "x-error-codes": Record<string, { retryable: boolean; description: string }>;
    "x-handshake-errors": { status: number; code: string; description: string }[];
  }

  type Attributes = Record<string, string | false | undefined>;
  type Child = Node | string | undefined | Child[];
}
