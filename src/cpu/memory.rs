//! Large arrays, on large pages where the system has them; and memory given back.
//!
//! A training step gathers rows of parameters, moments and residuals from all over some hundred
//! megabytes. With pages of 4 KiB nearly every row needs an address that the processor no longer
//! remembers; with pages of 2 MiB it remembers them all.
#![allow(unsafe_code)]

/// `n` zeros that nobody has touched yet: the system is asked to back them by large pages.
pub fn zeros(n: usize) -> Vec<f32> {
    let zeros = vec![0.0; n];
    #[cfg(target_os = "linux")]
    {
        /// A large page of x86-64; elsewhere still a multiple of a page.
        const LARGE: usize = 1 << 21;
        let (start, end) = (zeros.as_ptr().addr(), zeros.as_ptr().addr() + 4 * n);
        let (first, last) = (start.next_multiple_of(LARGE), end / LARGE * LARGE);
        if first < last {
            // SAFETY: whole pages within the vector's own memory, and the advice changes nothing
            // that a program could see. It may be refused, and the pages stay small.
            unsafe {
                libc::madvise(
                    zeros.as_ptr().byte_add(first - start).cast_mut().cast(),
                    last - first,
                    libc::MADV_HUGEPAGE,
                )
            };
        }
    }
    zeros
}

/// What an iterator gives, in such an array.
pub fn collect(n: usize, values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut array = zeros(n);
    array.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    array
}

/// Gives memory that was freed back to the system, which the allocator would keep for later: after
/// work that took more than what follows will.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator locks itself, and touches only what nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn arrays_of_any_size_are_zeros_and_can_be_written() {
        for n in [0, 1, 1 << 19, (1 << 20) + 7] {
            let mut array = super::zeros(n);
            assert!(array.len() == n && array.iter().all(|x| *x == 0.0));
            array.iter_mut().for_each(|x| *x = 1.0);
            array.push(2.0);
            assert_eq!(super::collect(n, array.into_iter()), vec![1.0; n]);
        }
    }
}
