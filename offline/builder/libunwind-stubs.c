/* Debian's libunwind.a is compiled against glibc with fortification; musl lacks these two. */
#include <stdarg.h>
#include <stdio.h>

int __vfprintf_chk(FILE *file, int flag, const char *format, va_list arguments) {
    (void)flag;
    return vfprintf(file, format, arguments);
}

int __vsnprintf_chk(char *text, size_t size, int flag, size_t real, const char *format, va_list arguments) {
    (void)flag, (void)real;
    return vsnprintf(text, size, format, arguments);
}
