/* Makes fdatasync and fsync fail once the file named by FAILING_SYNC_TRIGGER exists: with ENOSPC
   when that file begins with "ENOSPC", else with EIO. Preloaded by the crash tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int triggered(void) {
    const char *path = getenv("FAILING_SYNC_TRIGGER");
    FILE *file = path ? fopen(path, "r") : NULL;
    char word[16] = {0};
    if (!file) return 0;
    if (!fgets(word, sizeof word, file)) word[0] = 0;
    fclose(file);
    return strncmp(word, "ENOSPC", 6) == 0 ? ENOSPC : EIO;
}

static int sync_or_fail(const char *name, int descriptor) {
    int fault = triggered();
    if (fault) { errno = fault; return -1; }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(descriptor);
}

int fdatasync(int descriptor) { return sync_or_fail("fdatasync", descriptor); }
int fsync(int descriptor) { return sync_or_fail("fsync", descriptor); }
