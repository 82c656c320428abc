// Runs all registered tests, or those whose names contain the argument.
#include "test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_TIMEOUT_SECONDS 60

static struct test *tests;

void test_register(struct test *test) {
    struct test **at = &tests;
    while (*at && strcmp((*at)->name, test->name) < 0)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

const char *built_file(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    const char *directory = getenv("TORPOR_TEST_BUILD");
    snprintf(path, sizeof paths[0], "%s/%s", directory ? directory : "build", name);
    return path;
}

static bool run(const struct test *test) {
    fflush(NULL);
    const pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        alarm(TEST_TIMEOUT_SECONDS); // a hang is a failure
        test->run();
        exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        fprintf(stderr, "  ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0;
    for (const struct test *test = tests; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1]))
            continue;
        const bool ok = run(test);
        printf("%s %s\n", ok ? "ok" : "FAIL", test->name);
        *(ok ? &passed : &failed) += 1;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
