/* A server that keeps a timetable: the known truth that a load generator's times are held against.
 *
 * It answers OpenAI chat and completions requests with streams of equal chunks, one token and one send() each: token k
 * of a stream is due at (request completely read) + ttft + k * gap, whatever came before. It counts when it really sent
 * them. One thread, one epoll, a heap of due times; it sleeps until the next and never spins. Loopback only.
 *
 *     GET /health, /v1/models    POST /v1/chat/completions, /v1/completions (streamed)
 *     GET /truth                 times of what was sent since the last POST /truth/reset, as JSON
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bytes.h"
#include "chunks.h"
#include "clocks.h"
#include "histogram.h"
#include "request.h"

enum { EVENTS = 256, SENDS_A_TURN = 256 };
enum { IN_BYTES_KEPT = 64 * 1024, LEDGER_BYTES_DUE = 64 * 1024, LEDGER_BYTES_MAX = 16 * 1024 * 1024 };
struct connection {
    struct connection *next, *previous; /* of all */
    int fd;
    size_t place; /* in the heap; 0: not in it */
    int64_t due_ns; /* CLOCK_MONOTONIC, as all times of a stream */
    int64_t last_sent_ns, read_ns, ttft_ns, waited_until_ns;
    int64_t tokens, sent;
    int64_t realtime_offset_ns; /* CLOCK_REALTIME minus CLOCK_MONOTONIC when the request was read */
    bool streaming, role_due, waits, closes;
    struct asked asked;
    struct head head;
    size_t head_length; /* 0: the head is not complete */
    size_t searched; /* bytes of `in` known to hold no end of a head */
    struct bytes in, out;
    size_t out_sent;
    struct chunks chunks;
    int64_t *write_ns; /* of each token; with a ledger only */
    size_t write_capacity;
};

static struct {
    int port;
    double ttft_ms, gap_ms, ttft_cv;
    uint64_t seed;
    size_t chunk_bytes;
    const char *ledger;
} options = {.ttft_ms = 50, .gap_ms = 20, .seed = 1};

static int poller, listener, signals, ledger_fd = -1;
static bool listening = true;
static struct connection *connections, **heap; /* the heap begins at 1 */
static size_t heap_length, heap_capacity;
static struct bytes ledger;
static struct histogram ttft, itl, late;
static uint64_t requests, tokens, held_up, streams, random_state, requests_ever;
static double cpu_s_before;

static void die(const char *what) {
    fprintf(stderr, "paced_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* splitmix64: its author, Sebastiano Vigna, gave it to the public domain. */
static uint64_t random_bits(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static double random_share(void) { return ((double)(random_bits() >> 11) + 0.5) / 9007199254740992.0; }

/* Lognormal with the wanted mean and coefficient of variation. */
static int64_t drawn_ttft_ns(void) {
    double mean_ns = options.ttft_ms * (double)NS_PER_MS;
    if (options.ttft_cv <= 0 || mean_ns <= 0) return (int64_t)mean_ns;
    double variance = log1p(options.ttft_cv * options.ttft_cv);
    double normal = sqrt(-2 * log(random_share())) * cos(2 * M_PI * random_share());
    double drawn = exp(log(mean_ns) - variance / 2 + sqrt(variance) * normal);
    return (int64_t)(drawn < 3600e9 ? drawn : 3600e9);
}

static void put(size_t place, struct connection *connection) {
    heap[place] = connection;
    connection->place = place;
}

static void rise(size_t place, struct connection *connection) {
    for (; place > 1 && heap[place / 2]->due_ns > connection->due_ns; place /= 2) put(place, heap[place / 2]);
    put(place, connection);
}

static void sink(size_t place, struct connection *connection) {
    for (size_t child; (child = place * 2) <= heap_length; place = child) {
        if (child < heap_length && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= connection->due_ns) break;
        put(place, heap[child]);
    }
    put(place, connection);
}

static void schedule(struct connection *connection) {
    if (heap_length + 1 >= heap_capacity) {
        heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
        heap = grown(heap, heap_capacity * sizeof *heap);
    }
    rise(++heap_length, connection);
}

static void unschedule(struct connection *connection) {
    size_t place = connection->place;
    if (!place) return;
    connection->place = 0;
    struct connection *last = heap[heap_length--];
    if (last == connection) return;
    rise(place, last);
    sink(last->place, last);
}

static void write_ledger(void) {
    size_t written = 0;
    while (ledger_fd >= 0 && written < ledger.length) {
        ssize_t count = write(ledger_fd, ledger.at + written, ledger.length - written);
        if (count < 0 && errno != EINTR) die(options.ledger);
        if (count > 0) written += (size_t)count;
    }
    ledger.length = 0;
}

/* One line, as loadstair/simserver/ledger.py has it: the first write as ns since the epoch, then differences. */
static void enter(const struct connection *connection) {
    if (ledger_fd < 0) return;
    print(&ledger,
          "{\"request_id\":\"%s\",\"received_ns\":%" PRId64 ",\"input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
          ",\"finish\":\"%s\",\"write_ns\":[",
          connection->head.request_id, connection->read_ns + connection->realtime_offset_ns,
          connection->asked.prompt_tokens, connection->sent, connection->streaming ? "abort" : "length");
    for (int64_t i = 0; i < connection->sent; i++) {
        if (i) append(&ledger, ",", 1);
        int64_t before_ns = i ? connection->write_ns[i - 1] : -connection->realtime_offset_ns;
        append_number(&ledger, connection->write_ns[i] - before_ns);
    }
    append(&ledger, "]}\n", 3);
    if (ledger.length > LEDGER_BYTES_MAX) write_ledger();
}

static void watch(struct connection *connection, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void listen_again(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    if (!listening) listening = !epoll_ctl(poller, EPOLL_CTL_MOD, listener, &event);
}

static void end_connection(struct connection *connection) {
    if (connection->streaming) {
        enter(connection);
        streams--;
    }
    unschedule(connection);
    if (connection->next) connection->next->previous = connection->previous;
    *(connection->previous ? &connection->previous->next : &connections) = connection->next;
    close(connection->fd);
    free(connection->in.at);
    free(connection->out.at);
    free(connection->chunks.role.at);
    free(connection->chunks.token.at);
    free(connection->chunks.tail.at);
    free(connection->write_ns);
    free(connection);
    listen_again();
}

/* What the socket does not take waits for it. Returns the bytes taken, -1 if the connection is broken. */
static ssize_t send_bytes(struct connection *connection, const char *data, size_t length) {
    ssize_t count = 0;
    if (!connection->waits) {
        do count = send(connection->fd, data, length, MSG_NOSIGNAL);
        while (count < 0 && errno == EINTR);
        if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return -1;
        if (count < 0) count = 0;
    }
    if ((size_t)count < length && !connection->waits) {
        connection->waits = true;
        watch(connection, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
    }
    return count;
}

static bool send_all(struct connection *connection, const char *data, size_t length) {
    ssize_t count = send_bytes(connection, data, length);
    if (count >= 0) append(&connection->out, data + count, length - (size_t)count);
    return count >= 0;
}

static bool answer(struct connection *connection, int status, const char *body) {
    struct bytes message = {0};
    print(&message, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n%s", status,
          status == 200 ? "OK" : "Error", strlen(body), connection->closes ? "connection: close\r\n" : "", body);
    bool sent = send_all(connection, message.at, message.length);
    free(message.at);
    return sent;
}

static bool refuse(struct connection *connection, int status, const char *mistake) {
    char body[256];
    static const char format[] = "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"code\":%d}}";
    snprintf(body, sizeof body, format, mistake, status);
    return answer(connection, status, body);
}

static bool begin_stream(struct connection *connection, bool chat) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    connection->read_ns = monotonic_ns();
    connection->realtime_offset_ns = realtime_minus_monotonic_ns();
    connection->ttft_ns = drawn_ttft_ns();
    connection->tokens = connection->asked.tokens;
    connection->sent = connection->waited_until_ns = 0;
    connection->due_ns = connection->read_ns + connection->ttft_ns;
    connection->role_due = chat;
    connection->streaming = true;
    streams++;
    requests_ever++;
    char *id = connection->head.request_id;
    if (!*id) snprintf(id, ID_BYTES, "request-%" PRIu64, requests_ever);
    if (ledger_fd >= 0 && connection->write_capacity < (size_t)connection->tokens) {
        connection->write_capacity = (size_t)connection->tokens;
        connection->write_ns = grown(connection->write_ns, connection->write_capacity * sizeof *connection->write_ns);
    }
    make_chunks(&connection->chunks, &(struct stream_facts){
        .chat = chat,
        .usage = connection->asked.usage,
        .id = {random_bits(), random_bits()},
        .created_s = (connection->read_ns + connection->realtime_offset_ns) / NS_PER_S,
        .prompt_tokens = connection->asked.prompt_tokens,
        .output_tokens = connection->tokens,
        .token_bytes_min = options.chunk_bytes,
    });
    if (!send_all(connection, head, sizeof head - 1)) return false;
    if (!connection->waits) schedule(connection);
    return true;
}

static void count_token(struct connection *connection, int64_t sent_ns) {
    if (connection->sent == 0) histogram_add(&ttft, sent_ns - connection->read_ns);
    else histogram_add(&itl, sent_ns - connection->last_sent_ns);
    if (connection->due_ns < connection->waited_until_ns) held_up++;
    else if (connection->sent == 0 || options.gap_ms > 0) histogram_add(&late, sent_ns - connection->due_ns);
    if (ledger_fd >= 0) connection->write_ns[connection->sent] = sent_ns;
    connection->last_sent_ns = sent_ns;
    connection->sent++;
    tokens++;
}

/* The next token of a stream that is due; false if the connection is broken. Out of the heap when it is called. */
static bool send_token(struct connection *connection) {
    const struct chunks *chunks = &connection->chunks;
    if (connection->role_due) {
        connection->role_due = false;
        if (!send_all(connection, chunks->role.at, chunks->role.length)) return false;
        if (connection->waits) return true;
    }
    int64_t sent_ns = monotonic_ns();
    ssize_t count = send_bytes(connection, chunks->token.at, chunks->token.length);
    if (count < 0) return false;
    if (count == 0) return true; /* it is sent when the socket takes it */
    append(&connection->out, chunks->token.at + count, chunks->token.length - (size_t)count);
    count_token(connection, sent_ns);
    if (connection->sent < connection->tokens) {
        double after_ns = options.gap_ms * (double)NS_PER_MS * (double)connection->sent;
        int64_t due_ns = connection->read_ns + connection->ttft_ns + (int64_t)after_ns;
        connection->due_ns = options.gap_ms > 0 ? due_ns : sent_ns;
        if (!connection->waits) schedule(connection);
        return true;
    }
    connection->streaming = false;
    streams--;
    requests++;
    enter(connection);
    return send_all(connection, chunks->tail.at, chunks->tail.length);
}

static bool tell_truth(struct connection *connection) {
    char body[2048], parts[3][512];
    histogram_json(&ttft, parts[0], sizeof parts[0]);
    histogram_json(&itl, parts[1], sizeof parts[1]);
    histogram_json(&late, parts[2], sizeof parts[2]);
    snprintf(body, sizeof body,
             "{\"requests\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"held_up\":%" PRIu64 ",\"streams\":%" PRIu64
             ",\"cpu_s\":%.6f,\"ttft\":%s,\"itl\":%s,\"late\":%s}",
             requests, tokens, held_up, streams, cpu_s() - cpu_s_before, parts[0], parts[1], parts[2]);
    return answer(connection, 200, body);
}

static bool reset_truth(struct connection *connection) {
    memset(&ttft, 0, sizeof ttft);
    memset(&itl, 0, sizeof itl);
    memset(&late, 0, sizeof late);
    requests = tokens = held_up = 0;
    cpu_s_before = cpu_s();
    return answer(connection, 200, "{}");
}

static bool obey(struct connection *connection, const char *body) {
    const struct head *head = &connection->head;
    bool post = !strcmp(head->method, "POST"), get = !strcmp(head->method, "GET");
    bool chat = !strcmp(head->target, "/v1/chat/completions");
    connection->closes = !head->keep_alive;
    if (post && (chat || !strcmp(head->target, "/v1/completions"))) {
        connection->asked = read_asked(body, head->body_length);
        if (connection->asked.mistake) return refuse(connection, 400, connection->asked.mistake);
        return begin_stream(connection, chat);
    }
    if (get && !strcmp(head->target, "/health")) return answer(connection, 200, "{}");
    if (get && !strcmp(head->target, "/v1/models"))
        return answer(connection, 200, "{\"object\":\"list\",\"data\":[{\"id\":\"paced\",\"object\":\"model\"}]}");
    if (get && !strcmp(head->target, "/truth")) return tell_truth(connection);
    if (post && !strcmp(head->target, "/truth/reset")) return reset_truth(connection);
    return refuse(connection, 404, "there are /health, /v1/models, /v1/chat/completions, /v1/completions and /truth");
}

static bool refuse_and_close(struct connection *connection, const char *mistake) {
    connection->closes = true;
    connection->in.length = 0;
    return refuse(connection, 400, mistake);
}

/* Finds the head at the front of what came; false if the connection is broken. `head_length` stays 0 without one. */
static bool find_head(struct connection *connection) {
    struct bytes *in = &connection->in;
    size_t from = connection->searched > 3 ? connection->searched - 3 : 0;
    char *end = in->length > from ? memmem(in->at + from, in->length - from, "\r\n\r\n", 4) : NULL;
    connection->searched = in->length;
    if (!end) return in->length < HEAD_BYTES_MAX || refuse_and_close(connection, "the head is too long");
    connection->head = read_head(in->at, (size_t)(end - in->at));
    if (connection->head.mistake) return refuse_and_close(connection, connection->head.mistake);
    connection->head_length = (size_t)(end - in->at) + 4;
    size_t needed = connection->head_length + connection->head.body_length;
    if (needed > in->length) reserve(in, needed - in->length);
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    return !connection->head.expects_continue || needed == in->length || send_all(connection, go_on, sizeof go_on - 1);
}

/* Answers what complete requests have come, as long as the answers are taken; false if the connection is broken. */
static bool answer_requests(struct connection *connection) {
    struct bytes *in = &connection->in;
    while (!connection->streaming && !connection->waits && !connection->closes && in->length) {
        if (!connection->head_length && !find_head(connection)) return false;
        size_t whole = connection->head_length + connection->head.body_length;
        if (!connection->head_length || in->length < whole) break;
        bool sent = obey(connection, in->at + connection->head_length);
        memmove(in->at, in->at + whole, in->length - whole);
        in->length -= whole;
        connection->head_length = connection->searched = 0;
        if (in->capacity > IN_BYTES_KEPT && in->length < IN_BYTES_KEPT) {
            in->capacity = IN_BYTES_KEPT;
            in->at = grown(in->at, in->capacity);
        }
        if (!sent) return false;
    }
    return true;
}

static bool receive(struct connection *connection) {
    struct bytes *in = &connection->in;
    reserve(in, 4096);
    ssize_t count = recv(connection->fd, in->at + in->length, in->capacity - in->length, 0);
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (count == 0) return false;
    in->length += (size_t)count;
    if (connection->closes) in->length = 0;
    bool busy = connection->streaming || connection->waits;
    return !busy || in->length <= HEAD_BYTES_MAX; /* it may send its next request early, but not more */
}

/* The socket takes bytes again. */
static bool send_waiting(struct connection *connection) {
    struct bytes *out = &connection->out;
    connection->waits = false;
    size_t left = out->length - connection->out_sent;
    if (left) {
        ssize_t count = send(connection->fd, out->at + connection->out_sent, left, MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return false;
        if (count > 0) connection->out_sent += (size_t)count;
        connection->waits = connection->out_sent < out->length;
        if (connection->waits) return true;
    }
    connection->out_sent = out->length = 0;
    watch(connection, EPOLLIN | EPOLLRDHUP);
    if (connection->streaming) {
        connection->waited_until_ns = monotonic_ns();
        schedule(connection);
    }
    return true;
}

/* After each turn of a connection: goes on to its next request, or ends it. */
static void settle(struct connection *connection, bool whole) {
    if (whole && !connection->streaming) whole = answer_requests(connection);
    if (!whole || (connection->closes && !connection->streaming && !connection->waits)) end_connection(connection);
}

static void accept_connections(void) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection) die("no memory");
        connection->fd = fd;
        connection->next = connections;
        if (connections) connections->previous = connection;
        connections = connection;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = connection};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
    if (errno == EMFILE || errno == ENFILE) { /* until a connection ends: it would report the same without end */
        struct epoll_event none = {.events = 0, .data.ptr = &listener};
        listening = epoll_ctl(poller, EPOLL_CTL_MOD, listener, &none) != 0;
    }
}

/* Waits to the ns, where epoll_wait knows only ms. Linux 5.11 has a call for it. */
static int wait_for_events(struct epoll_event *events, int64_t timeout_ns) {
    struct timespec timeout = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    struct timespec *limit = timeout_ns < 0 ? NULL : &timeout;
#ifdef SYS_epoll_pwait2
    int count = (int)syscall(SYS_epoll_pwait2, poller, events, EVENTS, limit, NULL, 0);
    if (count >= 0 || errno != ENOSYS) return count;
#endif
    struct pollfd ready = {.fd = poller, .events = POLLIN};
    int found = ppoll(&ready, 1, limit, NULL);
    return found <= 0 ? found : epoll_wait(poller, events, EVENTS, 0);
}

static int64_t time_left_ns(void) {
    if (!heap_length) return -1;
    int64_t left = heap[1]->due_ns - monotonic_ns();
    return left > 0 ? left : 0;
}

static void send_due(void) {
    int64_t now = monotonic_ns();
    for (int sends = 0; sends < SENDS_A_TURN && heap_length && heap[1]->due_ns <= now; sends++) {
        struct connection *connection = heap[1];
        unschedule(connection);
        bool whole = send_token(connection);
        if (!whole || !connection->streaming) settle(connection, whole);
    }
}

static void attend(struct connection *connection, uint32_t events) {
    bool whole = !(events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP));
    if (whole && events & EPOLLIN) whole = receive(connection);
    if (whole && events & EPOLLOUT) whole = send_waiting(connection);
    settle(connection, whole);
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    for (bool stopping = false; !stopping;) {
        int64_t left_ns = time_left_ns();
        if (ledger.length && (left_ns < 0 || (left_ns > NS_PER_MS && ledger.length > LEDGER_BYTES_DUE))) {
            write_ledger();
            left_ns = time_left_ns();
        }
        int count = wait_for_events(events, left_ns);
        if (count < 0 && errno != EINTR) die("epoll");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].data.ptr == &signals) stopping = true;
            else if (events[i].data.ptr == &listener) accept_connections();
            else attend(connection, events[i].events);
        }
        send_due();
    }
    for (struct connection *each = connections; each; each = each->next)
        if (each->streaming) enter(each);
    write_ledger();
}

static int open_listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr *any = (struct sockaddr *)&address;
    if (bind(fd, any, length) || listen(fd, 4096) || getsockname(fd, any, &length)) die("listen");
    options.port = ntohs(address.sin_port);
    return fd;
}

static double number(const char *text, double most) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= 0 && value <= most)) {
        fprintf(stderr, "paced_server: %s: a number from 0 to %g is wanted\n", text, most);
        exit(2);
    }
    return value;
}

static void read_options(int count, char **words) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"ttft-ms", 1, 0, 't'}, {"gap-ms", 1, 0, 'g'},      {"ttft-cv", 1, 0, 'c'},
        {"seed", 1, 0, 's'}, {"ledger", 1, 0, 'l'},  {"chunk-bytes", 1, 0, 'b'}, {0}};
    for (int option; (option = getopt_long(count, words, "", known, NULL)) >= 0;) {
        switch (option) {
        case 'p': options.port = (int)number(optarg, 65535); break;
        case 't': options.ttft_ms = number(optarg, 3.6e6); break;
        case 'g': options.gap_ms = number(optarg, 3.6e6); break;
        case 'c': options.ttft_cv = number(optarg, 10); break;
        case 's': options.seed = (uint64_t)number(optarg, 1e15); break;
        case 'b': options.chunk_bytes = (size_t)number(optarg, 1e6); break;
        case 'l': options.ledger = optarg; break;
        default: exit(2);
        }
    }
}

int main(int count, char **words) {
    read_options(count, words);
    random_state = options.seed;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1UL);
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    if (options.ledger) {
        ledger_fd = open(options.ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (ledger_fd < 0) die(options.ledger);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    listener = open_listener();
    signals = signalfd(-1, &stops, SFD_CLOEXEC);
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &listener};
    struct epoll_event on_signal = {.events = EPOLLIN, .data.ptr = &signals};
    if (poller < 0 || signals < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &on_listener) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, signals, &on_signal))
        die("epoll");
    printf("port %d\n", options.port);
    fflush(stdout);
    serve();
    return 0;
}
