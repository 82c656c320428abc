#include "status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

Guest__V1__StatusCode status_of_errno(int errno_value) {
    switch (errno_value) {
        case 0: return GUEST__V1__STATUS_CODE__STATUS_CODE_OK;
        case ENOENT:
        case ECONNREFUSED:
        case ESRCH: return GUEST__V1__STATUS_CODE__STATUS_CODE_NOT_FOUND;
        case EACCES:
        case EPERM:
        case EROFS: return GUEST__V1__STATUS_CODE__STATUS_CODE_PERMISSION_DENIED;
        case EEXIST: return GUEST__V1__STATUS_CODE__STATUS_CODE_ALREADY_EXISTS;
        case ENOSPC:
        case EDQUOT:
        case EFBIG: return GUEST__V1__STATUS_CODE__STATUS_CODE_NO_SPACE;
        case EINVAL:
        case ENAMETOOLONG:
        case E2BIG:
        case ELOOP: return GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT;
        case EISDIR:
        case ENOTDIR:
        case ENOTEMPTY:
        case EBUSY:
        case ENOEXEC:
        case ECONNRESET:
        case EPIPE: return GUEST__V1__STATUS_CODE__STATUS_CODE_FAILED_PRECONDITION;
        case ENOMEM:
        case EAGAIN:
        case EMFILE:
        case ENFILE: return GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED;
        default: return GUEST__V1__STATUS_CODE__STATUS_CODE_INTERNAL;
    }
}

void status_message(char *buffer, size_t size, const char *what, int errno_value) {
    snprintf(buffer, size, "%s: %s", what, strerror(errno_value));
}
