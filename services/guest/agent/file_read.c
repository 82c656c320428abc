#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

static int send_content(struct worker_output *output, int fd, uint64_t length) {
    static uint8_t data[MAX_DATA_BYTES];
    bool whole = length == 0;
    for (bool eof = false; !eof;) {
        size_t wanted = !whole && length < sizeof data ? (size_t)length : sizeof data;
        ssize_t got = wanted ? read(fd, data, wanted) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        length -= whole ? 0 : (uint64_t)got;
        eof = got == 0 || (!whole && length == 0);
        Guest__V1__FileChunk chunk = GUEST__V1__FILE_CHUNK__INIT;
        chunk.data = (ProtobufCBinaryData){(size_t)got, data};
        chunk.eof = eof;
        Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
        frame.body_case = GUEST__V1__FRAME__BODY_FILE_CHUNK;
        frame.file_chunk = &chunk;
        worker_send(output, &frame, (uint32_t)got);
    }
    return 0;
}

int file_read(struct worker_output *output, const struct account *account, const void *request) {
    const Guest__V1__ReadFile *read_file = request;
    char path[MAX_PATH_BYTES];
    int error = file_resolve(account, read_file->path, path);
    if (error) return error;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return errno;
    struct stat status;
    if (fstat(fd, &status)) return errno;
    if (S_ISDIR(status.st_mode)) return EISDIR;
    if (read_file->offset && lseek(fd, (off_t)read_file->offset, SEEK_SET) < 0) return errno;
    if ((error = file_send_entry(output, path)) != 0) return error;
    return send_content(output, fd, read_file->length);
}
