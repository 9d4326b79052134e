//! The names of mount options, to tell a misspelt option from one that only this program does not know.

/// Values that an option may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// No value: `ro`.
    None,
    /// A number: `timeo=600`.
    Number,
    /// A text: `sec=krb5`.
    Text,
    /// A text or nothing: `fsc`, `fsc=TAG`.
    Optional,
}

/// Options that mount(8) and the kernel know for all file systems. A list has one option per word: `=` after the name
/// means a text, `=#` a number, `?` an optional value.
const GENERIC: &str = "ro rw suid nosuid dev nodev exec noexec sync async dirsync atime noatime diratime nodiratime \
    relatime norelatime strictatime nostrictatime lazytime nolazytime mand nomand iversion noiversion silent loud \
    defaults auto noauto user? nouser users owner group nofail _netdev remount nosymfollow symfollow context= \
    fscontext= defcontext= rootcontext= comment= helper= uhelper=";

/// Options for the automounter among those of an entry.
const AUTOMOUNT: &str = "fstype= strict nonstrict use-weight-only no-use-weight-only browse nobrowse browsable \
    nobrowsable nobind nosymlink symlink timeout=# mount-timeout=# requires= strictexpire hosts null slave private shared";

/// nfs(5) and the kernel's fs/nfs/fs_context.c.
const NFS: &str = "ac noac acl noacl bg fg nofg cto nocto fsc? nofsc hard soft softerr intr nointr lock nolock posix \
    noposix rdirplus? nordirplus resvport noresvport sharecache nosharecache softreval nosoftreval tcp udp rdma tcp6 \
    udp6 rdma6 migration nomigration trunkdiscovery notrunkdiscovery alignwrite noalignwrite sloppy v2 v3 v4 v4.0 v4.1 \
    v4.2 acdirmax=# acdirmin=# acregmax=# acregmin=# actimeo=# addr= bsize=# cert_serial= clientaddr= fatal_neterrors= \
    local_lock= lookupcache= max_connect=# minorversion=# mountaddr= mounthost= mountport=# mountproto= mountvers=# \
    namlen=# nconnect=# nfsprog=# mountprog=# nfsvers= port=# privkey_serial= proto= retrans=# retry=# rsize=# sec= \
    timeo=# vers= write= wsize=# xprtsec= nfs4_acl quota noquota grpquota usrquota grpid nogrpid bulkread nobulkread";

/// mount.cifs(8) and the kernel's fs/smb/client/fs_context.c.
const CIFS: &str = "username= user? password= pass= password2= credentials= cred= domain= dom= workgroup= uid= gid= \
    cruid= forceuid noforceuid forcegid noforcegid file_mode= dir_mode= port=# ip= addr= servern= netbiosname= \
    iocharset= sec= vers= ver= guest perm noperm dynperm nodynperm serverino noserverino mapchars nomapchars mapposix \
    nomapposix nocase ignorecase nobrl brl sfu nosfu mfsymlinks nomfsymlinks cache= rsize=# wsize=# bsize=# esize=# acl \
    noacl cifsacl nocifsacl modefromsid idsfromsid backupuid= backupgid= unix nounix linux nolinux posix noposix \
    posixpaths noposixpaths setuids nosetuids soft nosoft hard nohard seal sign strictsync nostrictsync fsc multiuser \
    rootfs actimeo=# acregmax=# acdirmax=# closetimeo=# echo_interval=# max_credits=# max_channels=# max_cached_dirs=# \
    multichannel nomultichannel handletimeout=# resilienthandles noresilienthandles persistenthandles \
    nopersistenthandles snapshot= prefixpath= locallease nolease nodfs dfs nosharesock signloosely compress? rdma \
    witness intr nointr retrans=# symlink= nativesocket= symlinkroot= directio forcedirectio strictcache loose \
    handlecache nohandlecache noautotune noblocksend tcpnodelay domainauto unc= source= target= path= srcaddr= reparse= \
    upcall_target= min_enc_offload=# user_xattr nouser_xattr nodelete noexec remount gss krb5";

/// Options of file systems on disks, of FUSE and of others.
const OTHER: &str = "data= errors= commit=# barrier? nobarrier discard? nodiscard acl noacl user_xattr nouser_xattr \
    journal_checksum journal_async_commit journal_dev= usrquota grpquota prjquota quota noquota usrjquota= grpjquota= \
    jqfmt= inode64 inode32 logbufs=# logbsize= logdev= rtdev= allocsize= sunit=# swidth=# nouuid norecovery noload nogrpid \
    grpid bsdgroups sysvgroups minixdf bsddf resgid= resuid= sb= stripe=# delalloc nodelalloc dioread_nolock dax? \
    subvol= subvolid= compress? compress-force= ssd nossd space_cache? autodefrag noautodefrag degraded device= flushoncommit \
    datacow nodatacow datasum nodatasum thread_pool=# rescue= uid= gid= umask= fmask= dmask= mode= codepage= iocharset= \
    shortname= utf8? flush check= tz= time_offset= usefree showexec dots nodots allow_utime= quiet sys_immutable \
    allow_other allow_root default_permissions nonempty max_read=# fsname= subtype= blksize=# fd= rootmode= user_id= \
    group_id= kernel_cache auto_cache hard_remove use_ino readdir_ino attr_timeout= entry_timeout= negative_timeout= \
    ac_attr_timeout= noauto_cache big_writes large_read direct_io max_write=# max_readahead=# async_read sync_read \
    reconnect delay_connect idmap= nomap= uidfile= gidfile= workaround= IdentityFile= StrictHostKeyChecking= \
    UserKnownHostsFile= ServerAliveInterval=# ServerAliveCountMax=# Compression= compression= Ciphers= ssh_command= \
    ssh_protocol= sftp_server= directport=# password_stdin follow_symlinks transform_symlinks disable_hardlink sshfs_sync \
    cache? cache_timeout=# cache_stat_timeout=# dir_cache? size= nr_blocks= nr_inodes= mpol= huge= noswap lowerdir= \
    upperdir= workdir= index= redirect_dir= xino= metacopy= userxattr volatile conv= rock norock joliet nojoliet session= \
    sbsector= overriderockperm cruft unhide nls= windows_names permissions streams_interface= locale= force recover \
    norecover remove_hiberfile hide_dot_files hide_hid_files hidden= sparse nohidden prealloc noacsrules showmeta case \
    backup-volfile-servers= backup-volfile-server= log-level= log-file= direct-io-mode= transport= volume-name= \
    server-port=# name= secret= secretfile= key= mds_namespace= fs= conf= mon_addr= noshare ms_mode= recover_session= \
    flock localflock noflock loop? offset= sizelimit= encryption= trans= version= msize=# access= dfltuid= dfltgid= \
    cachetag= aname= dyn autocell anchor bootid longad novrs unifiedmedia iso9660 lastblock= adinicb noadinicb undelete \
    nostrict relax uquota gquota pquota uqnoenforce gqnoenforce pqnoenforce qnoenforce bind rbind move make-private unbindable rprivate rshared rslave runbindable";

/// The lists by the type of file system; `None`: not known well enough to call an option unknown.
fn lists(fstype: &[u8]) -> Option<[&'static str; 2]> {
    Some(match fstype {
        b"nfs" | b"nfs4" => [NFS, ""],
        b"cifs" | b"smb3" => [CIFS, ""],
        b"ext2" | b"ext3" | b"ext4" | b"xfs" | b"btrfs" | b"vfat" | b"exfat" | b"iso9660" | b"udf" | b"tmpfs"
        | b"bind" | b"autofs" => [OTHER, ""],
        _ => return None,
    })
}

fn words() -> impl Iterator<Item = &'static str> {
    [AUTOMOUNT, GENERIC, NFS, CIFS, OTHER].into_iter().flat_map(str::split_ascii_whitespace)
}

fn name_of(word: &str) -> &str {
    word.split(['=', '?']).next().unwrap_or(word)
}

/// Returns whether any file system has an option of this name. What begins with `x-` or `X-` is for other programs.
pub fn is_option(name: &[u8]) -> bool {
    name.starts_with(b"x-") || name.starts_with(b"X-") || words().any(|word| name_of(word).as_bytes() == name)
}

/// Returns the value that option `name` takes at a file system of type `fstype`; `None` if it is not known.
pub fn value(name: &[u8], fstype: &[u8]) -> Option<Value> {
    let [first, second] = lists(fstype)?;
    let mut words = [first, second, AUTOMOUNT, GENERIC].into_iter().flat_map(str::split_ascii_whitespace);
    let word = words.find(|word| name_of(word).as_bytes() == name)?;
    Some(match word {
        word if word.ends_with("=#") => Value::Number,
        word if word.ends_with('=') => Value::Text,
        word if word.ends_with('?') => Value::Optional,
        _ => Value::None,
    })
}

/// Returns whether the options of `fstype` are listed so completely that another one is a mistake.
pub fn is_complete(fstype: &[u8]) -> bool {
    matches!(fstype, b"nfs" | b"nfs4")
}

/// Returns whether an option like a known one may be taken for a misspelt one at this type.
pub fn are_known(fstype: &[u8]) -> bool {
    lists(fstype).is_some()
}

/// Returns the option of `fstype` with the most similar name, if it is similar enough to be a misspelling.
pub fn nearest(name: &[u8], fstype: &[u8]) -> Option<&'static str> {
    let lists = lists(fstype).unwrap_or([OTHER, ""]);
    let words = lists.into_iter().chain([AUTOMOUNT, GENERIC]).flat_map(str::split_ascii_whitespace);
    super::nearest(name, words.map(name_of))
}

/// Returns whether all of `word`, names joined by commas, looks like options: known names, or any with `=`.
pub fn look_like_options(word: &[u8]) -> bool {
    let word = word.strip_suffix(b",").unwrap_or(word);
    !word.is_empty()
        && word.split(|&b| b == b',').all(|option| {
            let name = option.split(|&b| b == b'=').next().unwrap_or_default();
            let has_value = name.len() < option.len() && name.len() > 1;
            is_option(name) || (has_value && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_from_others() {
        for (word, is) in [
            ("ro", true),
            ("rw,soft", true),
            ("rw,", true),
            ("rw,sfot", false),
            ("fstype=nfs4", true),
            ("vers=4.2,foo=1", true),
            ("p1", false),
            ("project", false),
            ("", false),
            ("=", false),
        ] {
            assert_eq!(look_like_options(word.as_bytes()), is, "{word}");
        }
        assert!(is_option(b"x-systemd.automount"));
        assert_eq!(value(b"timeo", b"nfs"), Some(Value::Number));
        assert_eq!(value(b"fsc", b"nfs"), Some(Value::Optional));
        assert_eq!(value(b"credentials", b"nfs"), None);
        assert_eq!(value(b"ro", b"cifs"), Some(Value::None));
        assert_eq!(nearest(b"sfot", b"nfs"), Some("soft"));
        assert_eq!(nearest(b"fstpye", b"nfs"), Some("fstype"));
        assert_eq!(nearest(b"whatever", b"nfs"), None);
    }
}
