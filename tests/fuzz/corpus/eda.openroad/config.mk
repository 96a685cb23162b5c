export PLATFORM = sky130hd
export DESIGN_NAME = aes
export SDC_FILE = ./designs/$(PLATFORM)/$(DESIGN_NAME)/constraint.sdc
all: build
	echo "x = y"
