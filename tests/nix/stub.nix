# A package set without packages: every name is a derivation that nobody builds, so that options, assertions, units and
# generated files of a NixOS configuration can be evaluated in seconds where nixpkgs itself is not at hand.
#   tree   a directory with lib/ and nixos/ of nixpkgs
#   names  every name that the modules may ask for (check.py reads them out of the tree)
{ tree, names }:
let
  lib = import (tree + "/lib");
  platform = lib.systems.elaborate "x86_64-linux";
  bare =
    name:
    derivation {
      name = lib.strings.sanitizeDerivationName name;
      system = "x86_64-linux";
      builder = "/bin/sh";
    };
  yes = _: true;
  kconfig = { isYes = yes; isEnabled = yes; isNo = _: false; isSet = yes; };
  fake =
    name:
    bare name
    // {
      inherit name;
      pname = name;
      version = "9.9";
      modDirVersion = "9.9";
      meta = { mainProgram = name; platforms = [ ]; license = [ ]; };
      passthru = { };
      tests = { };
      features = { };
      outputs = [ "out" ];
      interpreter = "/bin/${name}";
      shellPath = "/bin/${name}";
      isHardened = false;
      isZen = false;
      isLibre = false;
      config = kconfig;
      kernelOlder = _: false;
      kernelAtLeast = yes;
      override = _: fake name;
      overrideAttrs = _: fake name;
      extend = _: fake name;
      withPackages = _: fake name;
      kernel = bare "linux" // { features.efiBootStub = true; version = "6.12"; modDirVersion = "6.12"; config = kconfig; };
    }
    // lib.genAttrs [ "bin" "dev" "lib" "man" "doc" "info" "out" "ga" ] (output: bare "${name}-${output}");
  text =
    name: content:
    let
      self = bare name // { text = content; inherit name; meta = { }; override = _: self; overrideAttrs = _: self; };
    in
    self;
  value = with lib.types; nullOr (oneOf [ bool int float str path (attrsOf value) (listOf value) ]) // { description = "value"; };
  # Most are functions of their settings, some (systemd) are the format itself.
  format = { __functor = self: _: self; type = value; generate = name: content: bare name // { inherit content; }; };
  base = lib.genAttrs names fake;
  named = argument: fake (argument.name or argument.pname or "drv");
  builders = lib.genAttrs [ "runCommand" "runCommandLocal" "runCommandCC" ] (_: name: _: _: fake name);
  self =
    base
    // builders
    // {
      inherit lib;
      _type = "pkgs";
      system = "x86_64-linux";
      path = tree;
      config.allowUnfree = false;
      overlays = [ ];
      hostPlatform = platform;
      stdenv = fake "stdenv" // {
        hostPlatform = platform;
        buildPlatform = platform;
        targetPlatform = platform;
        cc = fake "cc" // { bintools.dynamicLinker = "/lib64/ld-linux-x86-64.so.2"; };
        isLinux = true;
        isDarwin = false;
        isx86_64 = true;
        isAarch64 = false;
        isx86_32 = false;
        is64bit = true;
        isi686 = false;
        isMips = false;
        isAarch32 = false;
        isRiscV = false;
        shell = "/bin/sh";
        system = "x86_64-linux";
        mkDerivation = argument: if builtins.isFunction argument then fake "drv" else named argument;
      };
      stdenvNoCC = self.stdenv;
      formats = lib.genAttrs [
        "json" "yaml" "toml" "ini" "iniWithGlobalSection" "keyValue" "gitIni" "systemd" "xml" "javaProperties"
        "libconfig" "nixConf" "php" "pythonVars" "lua" "elixirConf" "hocon" "configobj" "plist" "hcl1" "yaml_1_1"
      ] (_: format);
      writeText = text;
      writeScript = text;
      writeShellScript = text;
      writeScriptBin = text;
      writeShellScriptBin = text;
      writeTextDir = path: text (baseNameOf path);
      writeTextFile = argument: text argument.name (argument.text or "");
      writeShellApplication = argument: text argument.name argument.text;
      writeClosure = _: fake "closure";
      closureInfo = _: fake "closure";
      buildEnv = named;
      symlinkJoin = named;
      linkFarm = name: _: fake name;
      linkFarmFromDrvs = name: _: fake name;
      substitute = named;
      substituteAll = named;
      replaceVars = _: _: fake "replaced";
      concatText = name: _: fake name;
      runtimeShell = "/bin/sh";
      runtimeShellPackage = fake "bash";
      shadow = fake "shadow" // { su = bare "su"; };
      buildPackages = self;
      pkgsStatic = self;
      __splicedPackages = self;
      OVMF =
        let
          ovmf = fake "OVMF" // { fd = ovmf; override = _: ovmf; firmware = "/OVMF"; variables = "/VARS"; systemManagementModeRequired = false; };
        in
        ovmf;
      systemd =
        fake "systemd"
        // { interfaceVersion = 2; withAudit = false; }
        // lib.genAttrs [
          "withAnalyze" "withBootloader" "withCoredump" "withCryptsetup" "withEfi" "withFido2" "withHomed" "withHostnamed"
          "withHwdb" "withImportd" "withIptables" "withKmod" "withLocaled" "withLogind" "withMachined" "withNetworkd"
          "withNss" "withOomd" "withPasswordQuality" "withPortabled" "withRepart" "withResolved" "withSysupdate"
          "withSysusers" "withTimedated" "withTimesyncd" "withTpm2Tss" "withTpm2Units" "withUkify" "withUtmp"
        ] yes;
      linuxPackages = fake "linux-packages";
      linuxKernel = { packages = { }; packagesFor = _: fake "linux-packages"; };
      callPackage = _: _: fake "called";
      callPackages = _: _: { };
      makeInitrd = _: fake "initrd";
      makeInitrdNG = _: fake "initrd";
      makeModulesClosure = _: fake "modules";
      aggregateModules = _: fake "modules";
      extend = _: self;
      appendOverlays = _: self;
      python3 = fake "python3" // { pkgs = { }; sitePackages = "lib/python3/site-packages"; };
      nixosTests = { };
      # Ours.
      personal-cluster = fake "personal-cluster";
      clusterlabs-sbd = fake "clusterlabs-sbd";
    }
    // lib.genAttrs [ "pythonPackages" "python3Packages" "perlPackages" "luajitPackages" "xorg" "gnome" ] (_: base);
in
self
