"""An OTLP receiver: takes spans over HTTP (protobuf) and gRPC with the official definitions, and prints each as a line.

The first line says where it listens. `receiver.py PORT` listens for HTTP on that port, otherwise on a free one.
"""

import json
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

printing = Lock()


def say(what):
    with printing:
        print(json.dumps(what), flush=True)


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def take(request, way, headers):
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                say(
                    {
                        "way": way,
                        "headers": headers,
                        "resource": resource,
                        "scope": scope_spans.scope.name,
                        "name": span.name,
                        "kind": trace.Span.SpanKind.Name(span.kind),
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "state": span.trace_state,
                        "links": [
                            {"trace": link.trace_id.hex(), "span": link.span_id.hex()} for link in span.links
                        ],
                        "attributes": attributes(span.attributes),
                        "status": trace.Status.StatusCode.Name(span.status.code),
                        "message": span.status.message,
                        "events": [event.name for event in span.events],
                        "began": span.start_time_unix_nano,
                        "ended": span.end_time_unix_nano,
                    }
                )


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        is_ours = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if is_ours:
            take(service.ExportTraceServiceRequest.FromString(body), "http", dict(self.headers))
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if is_ours else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Grpc(service_grpc.TraceServiceServicer):
    def Export(self, request, context):
        take(request, "grpc", {key: str(value) for key, value in context.invocation_metadata()})
        return service.ExportTraceServiceResponse()


http = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Http)
Thread(target=http.serve_forever, daemon=True).start()
server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
service_grpc.add_TraceServiceServicer_to_server(Grpc(), server)
grpc_port = server.add_insecure_port("127.0.0.1:0")
server.start()
say({"http": f"http://127.0.0.1:{http.server_port}", "grpc": f"http://127.0.0.1:{grpc_port}"})
server.wait_for_termination()
