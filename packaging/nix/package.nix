# nix-build -E 'with import <nixpkgs> {}; callPackage ./package.nix {}'
{
  lib,
  rustPlatform,
  util-linux,
  e2fsprogs,
  nfs-utils,
  symlinkJoin,
  sssd ? null,
}:

let
  # Helpers are started by absolute paths.
  helpers = symlinkJoin {
    name = "autofs-helpers";
    paths = [
      util-linux
      e2fsprogs
      nfs-utils
    ];
  };
in
rustPlatform.buildRustPackage {
  pname = "autofs-rs";
  version = "0.1.0";
  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;

  env = {
    AUTOFS_MOUNT = "${util-linux}/bin/mount";
    AUTOFS_UMOUNT = "${util-linux}/bin/umount";
    AUTOFS_SBIN = "${helpers}/bin";
  }
  // lib.optionalAttrs (sssd != null) { AUTOFS_SSSD_MODULES = "${sssd}/lib/sssd/modules"; };

  # The tests need root and /dev/autofs; the virtual machine of test.nix has both.
  doCheck = false;

  postInstall = ''
    make install-completions install-man install-unit PREFIX=$out SBINDIR=$out/bin TARGET=$out/bin
  '';

  meta = {
    description = "Automounter that survives crashes, upgrades and checkpoints";
    license = with lib.licenses; [
      mit
      asl20
    ];
    platforms = lib.platforms.linux;
    mainProgram = "automount";
  };
}
