"""Calls a gRPC service with nothing but its socket: what there is to call, and
how messages look, it is told by reflection (grpc/reflection/v1alpha). Run by
the system's Python, which has grpcio.

  reflection_client.py SOCKET METHOD '{"field": ...}'    prints the reply
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf import message_factory

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVICE = "bgfs.control.Control"


def reflection_messages():
    """The few messages of the reflection service that are used here."""
    file = descriptor_pb2.FileDescriptorProto(
        name="reflection.proto", package="r", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def add(name, *fields):
        message = file.message_type.add(name=name)
        for field_name, number, kind, label, type_name in fields:
            message.field.add(name=field_name, number=number, type=kind,
                              label=label, type_name=type_name)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    add("Request", ("file_containing_symbol", 4, field.TYPE_STRING, one, None))
    add("Files", ("file_descriptor_proto", 1, field.TYPE_BYTES, many, None))
    add("Response",
        ("file_descriptor_response", 4, field.TYPE_MESSAGE, one, ".r.Files"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return (factory.GetPrototype(pool.FindMessageTypeByName("r.Request")),
            factory.GetPrototype(pool.FindMessageTypeByName("r.Response")))


def main():
    socket, method, request = sys.argv[1:]
    channel = grpc.insecure_channel(f"unix:{socket}")
    ask_type, answer_type = reflection_messages()
    ask = channel.stream_stream(
        REFLECTION, request_serializer=ask_type.SerializeToString,
        response_deserializer=answer_type.FromString)
    answer, = ask(iter([ask_type(file_containing_symbol=SERVICE)]), timeout=20)
    pool = descriptor_pool.DescriptorPool()
    for text in answer.file_descriptor_response.file_descriptor_proto:
        pool.AddSerializedFile(text)
    factory = message_factory.MessageFactory(pool)
    described = pool.FindServiceByName(SERVICE).FindMethodByName(method)
    request_type = factory.GetPrototype(described.input_type)
    reply_type = factory.GetPrototype(described.output_type)
    call = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=request_type.SerializeToString,
        response_deserializer=reply_type.FromString)
    reply = call(json_format.ParseDict(json.loads(request), request_type()),
                 timeout=20)
    print(json_format.MessageToJson(reply, preserving_proto_field_name=True))


if __name__ == "__main__":
    main()
