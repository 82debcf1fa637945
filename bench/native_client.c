/* The limit that a client in Python is held against: many streams of chat answers, read with the kernel's stamps by one
 * epoll loop in C, each token found and counted. A closed loop: the next request goes out when an answer has ended.
 *
 *     native_client PORT STREAMS TOKENS WARMUP_S SECONDS
 *
 * Prints `measuring` after the warm-up, and at the end its counts as JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "clocks.h"
#include "histogram.h"

enum { EVENTS = 256, READ_BYTES = 16 * 1024, ANCILLARY_BYTES = 64 };
static const int64_t GROWTH_NS = 1000000000;

struct stream {
    int fd;
    struct bytes in;
    int64_t sent_ns, last_ns; /* CLOCK_REALTIME, as the kernel's stamps; last_ns 0: no token yet */
};

static struct histogram ttft, itl, lag;
static uint64_t tokens, requests, bunched;
static char request[1024];
static size_t request_length;
static char received[READ_BYTES];

static void die(const char *what) {
    fprintf(stderr, "native_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void ask(struct stream *stream) {
    stream->sent_ns = clock_ns(CLOCK_REALTIME);
    stream->last_ns = 0;
    if (send(stream->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) die("send");
}

static void take_token(struct stream *stream, int64_t stamp_ns) {
    tokens++;
    if (!stream->last_ns) histogram_add(&ttft, stamp_ns - stream->sent_ns);
    else histogram_add(&itl, stamp_ns - stream->last_ns);
    bunched += stream->last_ns == stamp_ns;
    stream->last_ns = stamp_ns;
}

/* Events end with an empty line; what is left of one stays at the front of the buffer. */
static void take_events(struct stream *stream, int64_t stamp_ns) {
    static const char content[] = "\"content\":\"";
    char *at = stream->in.at, *end = at + stream->in.length;
    for (char *stop; (stop = memmem(at, (size_t)(end - at), "\n\n", 2)); at = stop + 2) {
        char *text = memmem(at, (size_t)(stop - at), content, sizeof content - 1);
        if (text && text[sizeof content - 1] != '"') take_token(stream, stamp_ns);
    }
    stream->in.length = (size_t)(end - at);
    memmove(stream->in.at, at, stream->in.length);
    static const char last[] = "\r\n0\r\n\r\n";
    if (stream->in.length == sizeof last - 1 && !memcmp(stream->in.at, last, sizeof last - 1)) {
        stream->in.length = 0;
        requests++;
        ask(stream);
    }
}

static int64_t receive_stamped(struct stream *stream) {
    union {
        char bytes[ANCILLARY_BYTES];
        struct cmsghdr aligned;
    } ancillary;
    struct iovec into = {received, sizeof received};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = ancillary.bytes, .msg_controllen = sizeof ancillary.bytes};
    ssize_t count = recvmsg(stream->fd, &message, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (count <= 0) die("the server closed");
    int64_t read_ns = clock_ns(CLOCK_REALTIME), stamp_ns = read_ns;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec stamp;
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
        stamp_ns = stamp.tv_sec * NS_PER_S + stamp.tv_nsec;
    }
    histogram_add(&lag, read_ns - stamp_ns);
    append(&stream->in, received, (size_t)count);
    return stamp_ns;
}

static void open_stream(struct stream *stream, int port, int poller) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (stream->fd < 0 || connect(stream->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(stream->fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, stream->fd, &event)) die("epoll");
}

static void make_request(int port, int64_t output_tokens) {
    char body[512];
    int length = snprintf(body, sizeof body,
                          "{\"model\":\"paced\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":%" PRId64
                          ",\"messages\":[{\"role\":\"user\",\"content\":\"Tell me of the harbour, the orchard and the workshop.\"}]}",
                          output_tokens);
    request_length = (size_t)snprintf(request, sizeof request,
                                      "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
                                      "content-length: %d\r\n\r\n%s",
                                      port, length, body);
}

/* Until the time is over; streams that have not begun do so evenly over the growth time. */
static void run(struct stream *streams, size_t count, int poller, int64_t began_ns, int64_t until_ns) {
    static size_t begun;
    struct epoll_event events[EVENTS];
    for (int64_t now; (now = monotonic_ns()) < until_ns;) {
        while (begun < count && now - began_ns >= GROWTH_NS * (int64_t)begun / (int64_t)count) ask(&streams[begun++]);
        int ready = epoll_wait(poller, events, EVENTS, begun < count ? 1 : 100);
        for (int i = 0; i < ready; i++) {
            struct stream *stream = events[i].data.ptr;
            int64_t stamp_ns = receive_stamped(stream);
            if (stamp_ns) take_events(stream, stamp_ns);
        }
    }
}

int main(int count, char **words) {
    if (count != 6) return fprintf(stderr, "native_client PORT STREAMS TOKENS WARMUP_S SECONDS\n"), 2;
    int port = atoi(words[1]), poller = epoll_create1(EPOLL_CLOEXEC);
    size_t stream_count = (size_t)atoi(words[2]);
    struct stream *streams = calloc(stream_count, sizeof *streams);
    if (!streams) die("no memory");
    make_request(port, atoll(words[3]));
    for (size_t i = 0; i < stream_count; i++) open_stream(&streams[i], port, poller);
    int64_t began_ns = monotonic_ns(), from_ns = began_ns + (int64_t)(atof(words[4]) * 1e9);
    run(streams, stream_count, poller, began_ns, from_ns);
    memset(&ttft, 0, sizeof ttft);
    memset(&itl, 0, sizeof itl);
    memset(&lag, 0, sizeof lag);
    tokens = requests = bunched = 0;
    printf("measuring\n");
    fflush(stdout);
    double cpu_before_s = cpu_s();
    from_ns = monotonic_ns();
    run(streams, stream_count, poller, began_ns, from_ns + (int64_t)(atof(words[5]) * 1e9));
    double busy_s = cpu_s() - cpu_before_s, elapsed_s = (double)(monotonic_ns() - from_ns) / 1e9;
    char spreads[3][512];
    histogram_json(&ttft, spreads[0], sizeof spreads[0]);
    histogram_json(&itl, spreads[1], sizeof spreads[1]);
    histogram_json(&lag, spreads[2], sizeof spreads[2]);
    printf("measured\n{\"failed\":0,\"tokens\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"bunched\":%" PRIu64 ",\"cpu_s\":%.6f,\"elapsed_s\":%.6f,\"ttft\":%s,\"itl\":%s,\"read_lag\":%s}\n",
           tokens, requests, bunched, busy_s, elapsed_s, spreads[0], spreads[1], spreads[2]);
    return 0;
}
