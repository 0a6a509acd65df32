"""The time of day for compiled code: without Python, where that makes no difference."""

from cpython.object cimport PyObject

cdef extern from *:
    """
    #include <time.h>
    static inline double kv_seconds_since_epoch(void) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return (double)((long long)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9;
    }
    """
    double seconds_since_epoch "kv_seconds_since_epoch"() noexcept nogil

cdef extern from "Python.h":
    bint PyCFunction_Check(object function)
    void *PyCFunction_GetFunction "PyCFunction_GET_FUNCTION"(object function) noexcept
    PyObject *PyDict_GetItem(dict names, object name) noexcept

cdef bint is_system_clock(object clock)
cdef bint time_is_real() noexcept
