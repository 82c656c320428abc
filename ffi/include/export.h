// Marks what libtorpor.so exports; everything else is hidden (-fvisibility=hidden).
#pragma once

#define TORPOR_EXPORT __attribute__((visibility("default")))
