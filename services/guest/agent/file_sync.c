#include "files.h"
#include "mounts.h"

int file_sync_all(struct worker_output *output, const struct account *account, const void *request) {
    (void)output, (void)account, (void)request;
    return mounts_sync();
}
