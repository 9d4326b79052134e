//! The types of file systems, to tell a misspelt type from one that only this program does not know.

/// Types that many systems have, by the kernel or by a helper.
const TYPES: &str = "9p adfs affs afs apfs autofs befs bfs bind btrfs ceph cephfs changer cifs coda configfs cramfs \
    curlftpfs davfs debugfs devpts devtmpfs ecryptfs efivarfs efs erofs exfat ext2 ext3 ext4 f2fs fuse fuse3 fuseblk \
    fuse.sshfs gfs2 glusterfs gpfs hfs hfsplus hpfs hugetlbfs iso9660 jffs2 jfs lofs lustre minix mqueue nfs nfs4 \
    nilfs2 ntfs ntfs3 ntfs-3g ocfs2 omfs orangefs overlay overlayfs proc pvfs2 qnx4 qnx6 ramfs reiserfs romfs \
    rpc_pipefs s3fs securityfs smb3 smbfs squashfs sshfs sysfs sysv tmpfs tracefs ubifs udf ufs umsdos usbfs v7 vfat \
    vboxsf virtiofs vmhgfs-fuse xfs zfs zonefs";

/// Returns whether many systems know the type.
pub fn is_type(name: &[u8]) -> bool {
    TYPES.split_ascii_whitespace().any(|known| known.as_bytes() == name)
}

/// Returns the right spelling of a type that is spelled in another way.
pub fn meant(name: &[u8]) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_slice() {
        b"smbfs" | b"smb" | b"smb2" | b"samba" | b"windows" => "cifs",
        b"nfs2" | b"nfsv2" => "nfs,vers=2",
        b"nfs3" | b"nfsv3" => "nfs,vers=3",
        b"nfsv4" | b"nfs4.0" => "nfs4",
        b"nfs4.1" | b"nfsv4.1" => "nfs,vers=4.1",
        b"nfs4.2" | b"nfsv4.2" => "nfs,vers=4.2",
        b"fat" | b"fat32" | b"fat16" | b"msdosfs" | b"dos" => "vfat",
        b"iso" | b"iso9600" | b"cdfs" | b"cdrom" | b"cd9660" => "iso9660",
        b"webdav" | b"webdavfs" | b"davfs2" | b"dav" => "davfs",
        b"gluster" => "glusterfs",
        b"ntfs3g" => "ntfs-3g",
        b"none" | b"loopback" | b"nullfs" => "bind",
        _ => return None,
    })
}

/// The known type that is nearest to `name`.
pub fn nearest(name: &[u8]) -> Option<&'static str> {
    super::nearest(name, TYPES.split_ascii_whitespace())
}
