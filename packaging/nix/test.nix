# nix-build test.nix: a virtual machine mounts a key of an indirect map, keeps it over a crash, and upgrades in place.
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.testers.runNixOSTest {
  name = "autofs-rs";
  nodes.machine = {
    imports = [ ./module.nix ];
    services.autofs-rs = {
      enable = true;
      autoMaster = "/auto /etc/auto.test";
    };
    environment.etc."auto.test".text = "* -fstype=tmpfs :tmpfs";
  };
  testScript = ''
    machine.wait_for_unit("autofs.service")
    machine.succeed("stat /auto/one/. && findmnt --types tmpfs /auto/one")
    machine.succeed("pkill --signal KILL --oldest --parent $(systemctl show --property MainPID --value autofs) automount")
    machine.succeed("stat /auto/two/.")
    machine.succeed("autofsctl upgrade && stat /auto/three/.")
    machine.succeed("systemctl stop autofs")
    machine.fail("findmnt --types autofs /auto")
  '';
}
