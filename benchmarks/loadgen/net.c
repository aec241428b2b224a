#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int poller;
static SSL_CTX *server_context, *client_context;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

static SSL_CTX *context(const SSL_METHOD *method) {
    SSL_CTX *made = SSL_CTX_new(method);
    SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(made, 1);
    return made;
}

void net_start(const char *certificate, const char *key) {
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    if (!certificate) return;
    server_context = context(TLS_server_method());
    client_context = context(TLS_client_method());
    if (SSL_CTX_use_certificate_chain_file(server_context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(server_context, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "cannot use %s, %s\n", certificate, key);
        exit(2);
    }
}

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &made.sin_addr);
    return made;
}

int net_listen(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in where = address("127.0.0.1", port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&where, sizeof where) || listen(fd, 4096)) die("listen");
    return fd;
}

static conn *wrap(int fd, SSL_CTX *tls, bool server) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->server = server;
    if (tls) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, fd);
        server ? SSL_set_accept_state(c->ssl) : SSL_set_connect_state(c->ssl);
    }
    c->armed = EPOLLIN;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    return c;
}

conn *net_accept(int listener, bool tls) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? NULL : wrap(fd, tls ? server_context : NULL, true);
}

conn *net_connect(const char *host, int port, bool tls) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in where = address(host, port);
    if (fd < 0) die("socket");
    if (connect(fd, (void *)&where, sizeof where) && errno != EINPROGRESS) {
        close(fd);
        return NULL;
    }
    return wrap(fd, tls ? client_context : NULL, false);
}

ssize_t net_read(conn *c, void *data, size_t size) {
    if (!c->ssl) {
        ssize_t got = recv(c->fd, data, size, 0);
        return got >= 0 ? got : errno == EAGAIN ? -1 : 0;
    }
    size_t total = 0;
    while (total < size) {
        int got = SSL_read(c->ssl, (char *)data + total, (int)(size - total));
        if (got > 0) {
            total += (size_t)got;
            continue;
        }
        int why = SSL_get_error(c->ssl, got);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return total ? (ssize_t)total : -1;
        return (ssize_t)total;
    }
    return (ssize_t)total;
}

// How much went out; -1 for a broken connection.
static ssize_t put(conn *c, const unsigned char *data, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t sent;
        if (c->ssl) {
            sent = SSL_write(c->ssl, data + done, (int)(length - done));
            if (sent <= 0) {
                int why = SSL_get_error(c->ssl, (int)sent);
                return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? (ssize_t)done : -1;
            }
        } else {
            sent = send(c->fd, data + done, length - done, MSG_NOSIGNAL);
            if (sent < 0) return errno == EAGAIN || errno == ENOTCONN ? (ssize_t)done : -1;
        }
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

bool net_write(conn *c, const void *data, size_t length) {
    size_t done = 0;
    if (!net_pending(c)) {
        ssize_t sent = put(c, data, length);
        if (sent < 0) return false;
        done = (size_t)sent;
    }
    if (done < length) {
        if (c->out_start) {
            memmove(c->out, c->out + c->out_start, net_pending(c));
            c->out_length -= c->out_start;
            c->out_start = 0;
        }
        size_t needed = c->out_length + length - done;
        if (needed > c->out_capacity) c->out = realloc(c->out, c->out_capacity = needed * 2);
        memcpy(c->out + c->out_length, (const char *)data + done, length - done);
        c->out_length = needed;
    }
    net_arm(c);
    return true;
}

bool net_flush(conn *c) {
    if (net_pending(c)) {
        ssize_t sent = put(c, c->out + c->out_start, net_pending(c));
        if (sent < 0) return false;
        c->out_start += (size_t)sent;
        if (c->out_start == c->out_length) {
            c->out_start = c->out_length = c->out_capacity = 0;
            free(c->out);
            c->out = NULL;
        }
    }
    net_arm(c);
    return true;
}

void net_arm(conn *c) {
    uint32_t wanted = EPOLLIN | (net_pending(c) || c->always_out ? (uint32_t)EPOLLOUT : 0);
    if (c->ssl && !SSL_is_init_finished(c->ssl)) wanted = SSL_want_write(c->ssl) ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (wanted == c->armed) return;
    c->armed = wanted;
    struct epoll_event event = {.events = wanted, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

void net_free(conn *c) {
    if (c->ssl && SSL_is_init_finished(c->ssl)) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    free(c->rest);
    free(c->out);
    free(c);
}
