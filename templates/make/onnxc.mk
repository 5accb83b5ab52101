# onnxc for Make: a model becomes sources, compiled again when it changes.
#
#   include $(shell onnxc make-include)
#   $(eval $(call onnxc_model,kws,kws.onnx,c:cortex-m4,--max-ram 64K --bind batch=1))
#
# onnxc_model takes a name (lower-case letters, digits, underscores), the model, the target and options of `onnxc compile`.
# It adds to ONNXC_SOURCES, ONNXC_HEADERS and ONNXC_CPPFLAGS; what includes the header must depend on ONNXC_HEADERS:
#
#   main.o: $(ONNXC_HEADERS)

ONNXC ?= onnxc
ONNXC_BUILD ?= build/onnxc

define onnxc_model
ONNXC_GOAL := $$(.DEFAULT_GOAL)
ONNXC_SOURCES += $(ONNXC_BUILD)/$(1)/$(1).c
ONNXC_HEADERS += $(ONNXC_BUILD)/$(1)/$(1).h
ONNXC_CPPFLAGS += -I$(ONNXC_BUILD)/$(1)
ifneq ($(findstring separate-weights,$(3)),)
ONNXC_SOURCES += $(ONNXC_BUILD)/$(1)/$(1)_weights.c
$(ONNXC_BUILD)/$(1)/$(1)_weights.c: $(ONNXC_BUILD)/$(1)/record.json ;
endif
ifneq ($(findstring --self-test,$(4)),)
ONNXC_SOURCES += $(ONNXC_BUILD)/$(1)/$(1)_selftest.c
ONNXC_HEADERS += $(ONNXC_BUILD)/$(1)/$(1)_selftest.h
$(ONNXC_BUILD)/$(1)/$(1)_selftest.c $(ONNXC_BUILD)/$(1)/$(1)_selftest.h: $(ONNXC_BUILD)/$(1)/record.json ;
endif
$(ONNXC_BUILD)/$(1)/record.json: $(2)
	$(ONNXC) compile $(2) --target $(3) --name $(1) -o $(ONNXC_BUILD)/$(1) --depfile $(ONNXC_BUILD)/$(1).d $(4)
$(ONNXC_BUILD)/$(1)/$(1).c $(ONNXC_BUILD)/$(1)/$(1).h: $(ONNXC_BUILD)/$(1)/record.json ;
-include $(ONNXC_BUILD)/$(1).d
.DEFAULT_GOAL := $$(ONNXC_GOAL)
endef
