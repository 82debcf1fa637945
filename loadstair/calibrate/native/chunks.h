/* The events of one stream as vLLM sends them, each in its HTTP chunk: made once, sent many times. */
#ifndef LOADSTAIR_CHUNKS_H
#define LOADSTAIR_CHUNKS_H

#include <inttypes.h>
#include <stdbool.h>

#include "bytes.h"

struct chunks {
    struct bytes role;  /* what a chat begins with; empty for completions */
    struct bytes token;
    struct bytes tail;  /* finish reason, usage where it was asked for, [DONE] and the end of the body */
};

struct stream_facts {
    bool chat, usage;
    uint64_t id[2];
    int64_t created_s, prompt_tokens, output_tokens;
    size_t token_bytes_min; /* of a token's event; a field of no meaning is stretched until it is so long */
};

/* `object` lacks its closing brace. */
static inline void add_event(struct bytes *bytes, const struct bytes *object, size_t length_min) {
    static const char field[] = ",\"system_fingerprint\":\"\"";
    size_t plain = object->length + sizeof "data: }\n\n" - 1, with_field = plain + sizeof field - 1;
    size_t padding = length_min > with_field ? length_min - with_field : 0;
    print(bytes, "%zx\r\ndata: ", padding ? with_field + padding : plain);
    append(bytes, object->at, object->length);
    if (padding) {
        append(bytes, field, sizeof field - 2);
        reserve(bytes, padding);
        memset(bytes->at + bytes->length, 'x', padding);
        bytes->length += padding;
        append(bytes, "\"", 1);
    }
    append(bytes, "}\n\n\r\n", 5);
}

/* `choice`: the JSON of the event's one choice; empty for the event that has none but the usage. */
static inline void add_choice(struct bytes *to, const struct stream_facts *facts, const char *choice, size_t length_min) {
    struct bytes object = {0};
    print(&object, "{\"id\":\"%s-%016" PRIx64 "%016" PRIx64 "\",\"object\":\"%s\",\"created\":%" PRId64,
          facts->chat ? "chatcmpl" : "cmpl", facts->id[0], facts->id[1],
          facts->chat ? "chat.completion.chunk" : "text_completion", facts->created_s);
    print(&object, ",\"model\":\"paced\",\"choices\":[%s]", choice);
    if (!*choice)
        print(&object, ",\"usage\":{\"prompt_tokens\":%" PRId64 ",\"total_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64 "}",
              facts->prompt_tokens, facts->prompt_tokens + facts->output_tokens, facts->output_tokens);
    add_event(to, &object, length_min);
    free(object.at);
}

static const char CHAT_ROLE[] =
    "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}";
static const char CHAT_TOKEN[] =
    "{\"index\":0,\"delta\":{\"content\":\" the\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}";
static const char CHAT_FINISH[] =
    "{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}";
static const char TEXT_TOKEN[] =
    "{\"index\":0,\"text\":\" the\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}";
static const char TEXT_FINISH[] =
    "{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}";

static inline void make_chunks(struct chunks *chunks, const struct stream_facts *facts) {
    chunks->role.length = chunks->token.length = chunks->tail.length = 0;
    if (facts->chat) add_choice(&chunks->role, facts, CHAT_ROLE, 0);
    add_choice(&chunks->token, facts, facts->chat ? CHAT_TOKEN : TEXT_TOKEN, facts->token_bytes_min);
    add_choice(&chunks->tail, facts, facts->chat ? CHAT_FINISH : TEXT_FINISH, 0);
    if (facts->usage) add_choice(&chunks->tail, facts, "", 0);
    static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    append(&chunks->tail, end, sizeof end - 1);
}

#endif
