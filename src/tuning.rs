//! Settings of the process that save memory or CPU. Call them before the first thread starts.

/// Tunes the allocator for one thread per connection.
pub fn prepare_heap() {
    // glibc gives threads their own heaps, which costs megabytes.
    #[cfg(target_env = "gnu")]
    // SAFETY: sets an option of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    // musl unmaps the last group of blocks of a size as soon as all of them are free. For some sizes that happened once per
    // request: a third of the CPU time. One block of each size that is never freed prevents it. Each number is a size class of
    // musl (src/malloc/mallocng) in units of 16 bytes, of which 4 are its own.
    #[cfg(target_env = "musl")]
    for units in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 31, 36, 42, 50, 63, 72, 84, 102, 127] {
        std::mem::forget(std::hint::black_box(Vec::<u8>::with_capacity(units * 16 - 4)));
    }
}

/// Lets a thread run until it sleeps or has used its share, although another one became ready. Fewer switches between threads
/// save 20% of the CPU per request at 32 connections. If a sandbox refuses the call, the service works without it.
pub fn yield_to_others() {
    // A struct sched_param: its only field, the priority, is 0 for this policy.
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads one int. musl's own sched_setscheduler always fails, so this bypasses it.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const priority) };
}
