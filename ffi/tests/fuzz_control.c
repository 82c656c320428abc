// libFuzzer entry for the control socket of a pager: the input is what a client sends, in pieces whose lengths are in it.
#include "pager_control.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES 5000u

static bool take(void *context, uint64_t first, uint64_t count) {
    (void)context;
    if (!count || first >= PAGES || count > PAGES - first)
        abort();
    return first % 2;
}

static void answer_all(struct torpor_control *control, struct torpor_control_client *client) {
    do {
        client->out_length = client->out_done = 0;
        torpor_control_answer(control, client);
        if (client->out_length && (client->out[0] != '{' || memchr(client->out, '\n', client->out_length) !=
                                                                client->out + client->out_length - 1))
            abort();
    } while (client->out_length && !client->ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct torpor_pager_stats stats = {.page_count = PAGES};
    struct torpor_control control = {.listener = -1, .stats = &stats, .prefetch = take};
    struct torpor_control_client *client = calloc(1, sizeof *client);
    for (size_t at = 0; at < size && !client->ended;) {
        const size_t space = TORPOR_CONTROL_LINE - client->in_length, left = size - at - 1;
        size_t length = 1 + data[at++] % TORPOR_CONTROL_LINE;
        length = length < space ? length : space;
        length = length < left ? length : left;
        memcpy(client->in + client->in_length, data + at, length);
        client->in_length += (uint32_t)length;
        at += length;
        answer_all(&control, client);
        if (client->in_length >= TORPOR_CONTROL_LINE && !client->ended)
            abort();
    }
    free(client);
    return 0;
}
