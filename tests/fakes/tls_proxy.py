# Stands before an LDAP server that does not encrypt: ldaps on 127.0.0.1:636, and StartTLS on 127.0.0.1:389. Arguments: certificate and
# key, which are read for each connection, and the address of the server.
import socket
import ssl
import sys
import threading

CERTIFICATE, KEY, SERVER = sys.argv[1], sys.argv[2], sys.argv[3]


def copy(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
    except OSError:
        pass
    for end in source, target:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(stream, start_tls):
    try:
        if start_tls:
            # One extended request; the reply has its message number.
            request = stream.recv(4096)
            number = request[request.index(b"\x02"):][:3]
            reply = b"\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
            stream.sendall(b"\x30" + bytes([len(number + reply)]) + number + reply)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        stream = context.wrap_socket(stream, server_side=True)
        host, port = SERVER.split(":")
        server = socket.create_connection((host, int(port)))
    except (OSError, ValueError):
        stream.close()
        return
    threading.Thread(target=copy, args=(stream, server), daemon=True).start()
    copy(server, stream)


def listen(port, start_tls):
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve, args=(stream, start_tls), daemon=True).start()


threading.Thread(target=listen, args=(636, False), daemon=True).start()
listen(389, True)
