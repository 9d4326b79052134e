# services.autofs-rs: the automounter in place of services.autofs.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.autofs-rs;
  master = pkgs.writeText "auto.master" cfg.autoMaster;
in
{
  options.services.autofs-rs = {
    enable = lib.mkEnableOption "autofs-rs, an automounter";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The package to use.";
    };
    autoMaster = lib.mkOption {
      type = lib.types.lines;
      example = "/home /etc/auto.home --timeout=300";
      description = "The master map, see auto.master(5).";
    };
    options = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "--verbose" ];
      description = "Further command line options of automount(8).";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = !config.services.autofs.enable;
        message = "services.autofs and services.autofs-rs exclude each other";
      }
    ];
    boot.kernelModules = [ "autofs4" ];
    environment.systemPackages = [ cfg.package ];
    environment.etc."auto.master".source = master;
    systemd.services.autofs = {
      description = "Automounts file systems on demand";
      wantedBy = [ "multi-user.target" ];
      wants = [
        "network-online.target"
        "nfs-client.target"
      ];
      after = [
        "network.target"
        "network-online.target"
        "nfs-client.target"
        "remote-fs.target"
        "sssd.service"
      ];
      startLimitIntervalSec = 0;
      # A changed map is read again, and a changed program takes over in place.
      reloadTriggers = [
        master
        cfg.package
      ];
      restartIfChanged = false;
      serviceConfig = {
        Type = "notify-reload";
        NotifyAccess = "main";
        ExecStart = "/run/current-system/sw/bin/automount --systemd-service --dont-check-daemon ${lib.escapeShellArgs cfg.options} /etc/auto.master";
        # FUSE servers that mounts have started live on.
        KillMode = "process";
        TimeoutSec = 180;
        Restart = "on-failure";
        WatchdogSec = 180;
        RuntimeDirectory = "autofs";
      };
    };
  };
}
