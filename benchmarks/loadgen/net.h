// Non-blocking connections, plain or TLS, on one epoll.
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct conn {
    int fd;
    SSL *ssl;
    bool server;         // we accepted it
    bool open;           // the upgrade is done
    bool closing;        // a close frame was sent
    bool always_out;     // wants to hear of every chance to write
    bool dead;           // ended in this round of events, freed after it
    struct session *session;
    unsigned char *rest; // what was read and is no whole frame yet
    size_t rest_length;
    unsigned char *out;  // what the socket would not take
    size_t out_start, out_length, out_capacity;
    uint32_t armed;      // the epoll mask
} conn;

extern int poller;

void net_start(const char *certificate, const char *key);
int net_listen(int port);
conn *net_accept(int listener, bool tls);
conn *net_connect(const char *host, int port, bool tls);
// More than 0: bytes; 0: end or error; -1: nothing now.
ssize_t net_read(conn *c, void *data, size_t size);
// False: the connection is broken.
bool net_write(conn *c, const void *data, size_t length);
bool net_flush(conn *c);
void net_arm(conn *c);
void net_free(conn *c);

static inline size_t net_pending(const conn *c) { return c->out_length - c->out_start; }
