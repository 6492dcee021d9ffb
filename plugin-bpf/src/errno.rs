//! The names of errors.

use std::borrow::Cow;

/// The kernel's own errors (include/linux/errno.h), which system calls and functions return to it and seldom to
/// a process: the call is restarted, or the number is translated.
const KERNEL: [(u32, &str); 18] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
    (517, "EPROBE_DEFER"),
    (518, "EOPENSTALE"),
    (519, "ENOPARAM"),
    (521, "EBADHANDLE"),
    (523, "EBADCOOKIE"),
    (524, "ENOTSUPP"),
    (525, "ETOOSMALL"),
    (526, "ESERVERFAULT"),
    (527, "EBADTYPE"),
    (528, "EJUKEBOX"),
    (529, "EIOCBQUEUED"),
    (530, "ERECALLCONFLICT"),
    (531, "ENOGRACE"),
];

macro_rules! names {
    ($($name:ident)+) => {
        const NAMES: &[(u32, &str)] = &[$((libc::$name as u32, stringify!($name)),)+];
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT
    ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL
    EHWPOISON
}

/// The name of a positive error number, as the tag of a row: `ENOENT` for 2, `E4000` for one that has none.
///
/// Of two names of one number it is the kernel's first one: `EAGAIN`, `EDEADLK`, `EOPNOTSUPP`.
#[must_use]
pub fn name(number: u32) -> Cow<'static, str> {
    let known = NAMES.iter().chain(&KERNEL).find(|(known, _)| *known == number);
    known.map_or_else(|| format!("E{number}").into(), |(_, name)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_error_that_the_c_library_knows_has_one_name() {
        for number in 1..600 {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            let known = !text.starts_with("Unknown error") && !text.starts_with("No error");
            let named = !name(number as u32)[1..].starts_with(|c: char| c.is_ascii_digit());
            assert!(named || !known || number == libc::E2BIG, "{number}: {text}");
        }
        let (numbers, names): (BTreeSet<_>, BTreeSet<_>) =
            NAMES.iter().chain(&KERNEL).copied().unzip();
        assert_eq!((numbers.len(), names.len()), (NAMES.len() + 18, NAMES.len() + 18));
    }

    #[test]
    fn a_number_without_a_name_is_shown_as_it_is() {
        assert_eq!(name(2), "ENOENT");
        assert_eq!(name(libc::EWOULDBLOCK as u32), "EAGAIN");
        assert_eq!(name(512), "ERESTARTSYS");
        assert_eq!((name(0), name(134), name(4000)), ("E0".into(), "E134".into(), "E4000".into()));
    }
}
